-- Stores a message (see the function). $1 uuid its id, $2 uuid session, $3 uuid sender, $4 client's id, $5 body
SELECT outcome, state, message_id, mitra_id, customer_id FROM chat_send($1, $2, $3, $4, $5)
