-- Payments, last changed first ({state}: a condition). $1 timestamptz, $2 text invoice before which, $3 how many
SELECT * FROM payments
WHERE changed_at <= $1 AND (changed_at, invoice_id) < ($1, $2) AND {state}
ORDER BY changed_at DESC, invoice_id DESC LIMIT $3
