-- A customer does not want a pairing any more. $1 uuid pairing, $2 uuid customer
UPDATE pairings SET status = 'cancelled' WHERE id = $1 AND customer_id = $2 AND status = 'searching' RETURNING id
