-- Which of these logins of customers are good, and whether their customer is known.
-- $1 uuid[] auth session ids, $2 uuid[] customers
SELECT s.id, EXISTS (SELECT FROM customers c WHERE c.id = i.subject_id) AS known FROM unnest($1::uuid[], $2::uuid[]) AS i(id, subject_id)
JOIN auth_sessions s ON s.id = i.id AND s.subject_id = i.subject_id
WHERE s.role = 'customer' AND s.revoked_at IS NULL AND coalesce(s.expires_at, 'infinity') > clock_timestamp()
