-- A mitra does not want an offer (see the function). $1 uuid pairing, $2 uuid mitra
SELECT pairing_decline($1, $2)
