-- The open sessions of a mitra, oldest first. $1 uuid mitra
SELECT id, customer_id, status, created_at, payment_due_at, started_at, expires_at
FROM chat_sessions WHERE mitra_id = $1::uuid AND status IN ('pending_payment', 'active')
ORDER BY created_at, id
