-- Messages of sessions after numbers, in order. $1 uuid[] sessions, $2 integer[] numbers, $3 how many of each
SELECT m.* FROM unnest($1::uuid[], $2::integer[]) AS i(session_id, seq)
CROSS JOIN LATERAL (
    SELECT c.id, c.session_id, c.seq, c.sender, c.client_id, c.body, c.created_at AS at
    FROM chat_messages c WHERE c.session_id = i.session_id AND c.seq > i.seq ORDER BY c.seq LIMIT $3) AS m
ORDER BY m.session_id, m.seq
