-- The next wave of pairings (see the function).
-- $1 uuid[] pairings, $2 integer[] their waves, $3 uuid[] candidates in order, $4 offers a wave, $5 float8 seconds between
-- waves, $6 offers a pairing, $7 open offers a mitra
SELECT pairing_id, mitras, missing, first_offer_s FROM pairing_waves($1, $2, $3, $4, $5, $6, $7)
