-- A customer does not want a pairing any more (see the function). $1 uuid pairing, $2 uuid customer
SELECT pairing_cancel($1, $2)
