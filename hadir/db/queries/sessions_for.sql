-- The open sessions of mitras and customers, those that began lately, and what became of those that they were told of.
-- $1 uuid[] mitras, $2 uuid[] customers, $3 uuid[] sessions that they were told of
SELECT s.*, s.last_seq AS messages, m.display_name AS mitra_name, p.is_online AS mitra_reachable,
    s.created_at > now() - interval '1 minute' AS lately
FROM chat_sessions s JOIN mitras m ON m.id = s.mitra_id JOIN mitra_presence p ON p.mitra_id = s.mitra_id
WHERE s.id IN (
    SELECT id FROM chat_sessions WHERE mitra_id = ANY ($1::uuid[]) AND status IN ('pending_payment', 'active')
    UNION SELECT id FROM chat_sessions WHERE customer_id = ANY ($2::uuid[]) AND status IN ('pending_payment', 'active')
    UNION SELECT id FROM chat_sessions WHERE mitra_id = ANY ($1::uuid[]) AND created_at > now() - interval '1 minute'
    UNION SELECT id FROM chat_sessions WHERE customer_id = ANY ($2::uuid[]) AND created_at > now() - interval '1 minute'
    UNION SELECT unnest($3::uuid[]))
ORDER BY s.created_at, s.id
