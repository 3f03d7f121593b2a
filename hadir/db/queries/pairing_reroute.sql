-- A new search for a session that goes on (see the function); that an operator asked for it is put on record.
-- $1 uuid its id, $2 uuid session, $3 uuid customer (NULL: anybody's), $4 text[] states in which it may be,
-- $5 float8 seconds until its deadline, $6 text the operator (NULL: none)
WITH made AS (
    SELECT outcome, pairing_id FROM pairing_reroute($1, $2, $3, $4, $5)
), noted AS (
    INSERT INTO audit_log (actor, action, subject, detail)
    SELECT $6::text, 'reroute', $2::uuid::text, jsonb_build_object('pairing_id', pairing_id)
    FROM made WHERE outcome = 'created' AND $6::text IS NOT NULL
)
SELECT outcome, pairing_id FROM made
