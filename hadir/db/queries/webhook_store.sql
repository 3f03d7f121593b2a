-- Keeps what a payment provider said. $1 source, $2 jsonb body, $3 uuid the session that it names, if it does
INSERT INTO webhook_events (source, body, session_id) VALUES ($1, $2, $3)
