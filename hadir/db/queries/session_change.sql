-- One event of a session (see the function); what an operator did by it is put on record.
-- $1 uuid session, $2 uuid its customer or mitra (NULL: anybody), $3 text[] states, $4 text[] what each becomes, $5 reason of
-- an end, $6 float8 seconds that are bought, $7 integer which extension (0: none), $8 text the operator (NULL: none)
WITH changed AS (
    SELECT outcome, state, mitra_id, customer_id FROM session_change($1, $2, $3, $4, $5, $6, $7)
), noted AS (
    INSERT INTO audit_log (actor, action, subject, detail)
    SELECT $8::text, 'end_session', $1::uuid::text, jsonb_build_object('state', state, 'mitra_id', mitra_id)
    FROM changed WHERE outcome = 'done' AND $8::text IS NOT NULL
)
SELECT outcome, state, mitra_id, customer_id FROM changed
