-- What became of a mitra, newest first: its states, what operators did, its offers, its sessions. One list of four, each
-- from an index; `tie` orders what happened at the same time. `until`: when the next state began, or an offer or session
-- ended; `was`: the state before; `noticed_s`: how long after it had begun a state was written.
-- $1 uuid mitra, $2 timestamptz, $3 text the `at` and `tie` before which, $4 how many
WITH states AS (
    SELECT * FROM (
        SELECT *, 'p' || lpad((extract(epoch FROM recorded_at) * 1000000)::bigint::text, 20, '0') AS tie
        FROM presence_log WHERE mitra_id = $1::uuid AND at <= $2) AS l
    WHERE (at, tie COLLATE "C") < ($2, $3::text)
    ORDER BY at DESC, tie COLLATE "C" DESC LIMIT $4
), acts AS (
    SELECT * FROM (
        SELECT *, 'a' || lpad(id::text, 20, '0') AS tie FROM (
            SELECT * FROM audit_log WHERE subject = $1::uuid::text
            UNION ALL
            SELECT * FROM audit_log WHERE action = 'revoke' AND detail ->> 'subject_id' = $1::uuid::text) AS of_mitra) AS l
    WHERE (at, tie COLLATE "C") < ($2, $3::text)
    ORDER BY at DESC, tie COLLATE "C" DESC LIMIT $4
), offers AS (
    SELECT * FROM (
        SELECT o.*, 'o' || o.pairing_id AS tie, coalesce(o.answered_at, p.decided_at) AS until
        FROM pairing_offers o JOIN pairings p ON p.id = o.pairing_id
        WHERE o.mitra_id = $1::uuid AND o.offered_at <= $2) AS l
    WHERE (offered_at, tie COLLATE "C") < ($2, $3::text)
    ORDER BY offered_at DESC, tie COLLATE "C" DESC LIMIT $4
), sessions AS (
    SELECT * FROM (
        SELECT *, 's' || id AS tie FROM chat_sessions WHERE mitra_id = $1::uuid AND created_at <= $2) AS l
    WHERE (created_at, tie COLLATE "C") < ($2, $3::text)
    ORDER BY created_at DESC, tie COLLATE "C" DESC LIMIT $4
), chosen AS (
    SELECT * FROM (
        SELECT at, tie, 'presence' AS kind, state, reason, actor, connection_id, instance_id, NULL AS subject,
               NULL::timestamptz AS until, recorded_at FROM states
        UNION ALL
        SELECT at, tie, 'operator', NULL, action, actor, NULL, NULL, subject, NULL, NULL FROM acts
        UNION ALL
        SELECT offered_at, tie, 'offer', status, NULL, NULL, NULL, NULL, pairing_id::text, until, NULL FROM offers
        UNION ALL
        SELECT created_at, tie, 'session', status, end_reason, NULL, NULL, NULL, id::text, ended_at, NULL FROM sessions
    ) AS every ORDER BY at DESC, tie COLLATE "C" DESC LIMIT $4
)
SELECT c.at, c.tie, c.kind, c.state, c.reason, c.actor, c.connection_id, c.instance_id, c.subject,
       coalesce(c.until, following.at) AS until, preceding.state AS was,
       extract(epoch FROM c.recorded_at - c.at)::float8 AS noticed_s
FROM chosen c
LEFT JOIN LATERAL (
    SELECT n.at FROM presence_log n
    WHERE c.recorded_at IS NOT NULL AND n.mitra_id = $1::uuid
      AND n.at >= c.at AND (n.at, n.recorded_at) > (c.at, c.recorded_at)
    ORDER BY n.at, n.recorded_at LIMIT 1) AS following ON true
LEFT JOIN LATERAL (
    SELECT n.state FROM presence_log n
    WHERE c.recorded_at IS NOT NULL AND n.mitra_id = $1::uuid
      AND n.at <= c.at AND (n.at, n.recorded_at) < (c.at, c.recorded_at)
    ORDER BY n.at DESC, n.recorded_at DESC LIMIT 1) AS preceding ON true
ORDER BY c.at DESC, c.tie COLLATE "C" DESC
