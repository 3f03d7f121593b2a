-- One message. $1 uuid
SELECT id, session_id, seq, sender, client_id, body, created_at AS at FROM chat_messages WHERE id = $1
