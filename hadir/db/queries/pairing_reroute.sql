-- A new search for a session that goes on (see the function).
-- $1 uuid its id, $2 uuid session, $3 uuid customer (NULL: anybody's), $4 text[] states in which it may be,
-- $5 float8 seconds until its deadline
SELECT outcome, pairing_id FROM pairing_reroute($1, $2, $3, $4, $5)
