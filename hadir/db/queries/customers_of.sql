-- Who has an open session with these mitras. $1 uuid[] mitras
SELECT DISTINCT customer_id FROM chat_sessions WHERE mitra_id = ANY ($1::uuid[]) AND status IN ('pending_payment', 'active')
