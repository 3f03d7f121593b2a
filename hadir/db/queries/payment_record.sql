-- What became of an invoice (see the function).
-- $1 external id, $2 invoice id, $3 uuid session, $4 extension, $5 bool paid (else expired), $6 bigint rupiah, $7 when,
-- $8 actor, $9 text[] states, $10 text[] what each becomes, $11 float8 seconds that are bought
SELECT outcome, session_state, changed, mitra_id, customer_id
FROM payment_record($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
