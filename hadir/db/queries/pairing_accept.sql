-- Who accepts, wins, or does not (R7; see the function).
-- $1 uuid pairing, $2 uuid mitra, $3 float8 seconds that payment may take, $4 float8 seconds past the shown deadline
SELECT result, session_id, customer_id, moved, decided, waited_s FROM pairing_accept($1, $2, $3, $4)
