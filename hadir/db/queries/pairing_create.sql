-- A new pairing, or what is there in its way (see the function).
-- $1 uuid its id, $2 uuid customer, $3 idempotency key, $4 hash of the body, $5 note, $6 float8 seconds until its deadline
SELECT outcome, pairing_id FROM pairing_create($1, $2, $3, $4, $5, $6)
