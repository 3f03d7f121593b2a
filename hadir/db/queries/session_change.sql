-- One event of a session (see the function).
-- $1 uuid session, $2 uuid its customer or mitra (NULL: anybody), $3 text[] states, $4 text[] what each becomes, $5 reason of
-- an end, $6 float8 seconds that are bought, $7 integer which extension (0: none)
SELECT outcome, state, mitra_id, customer_id FROM session_change($1, $2, $3, $4, $5, $6, $7)
