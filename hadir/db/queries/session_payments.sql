-- The payments of a session. $1 uuid session
SELECT * FROM payments WHERE session_id = $1 ORDER BY created_at, invoice_id
