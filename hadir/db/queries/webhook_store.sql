-- Keeps what a payment provider said. $1 source, $2 jsonb body
INSERT INTO webhook_events (source, body) VALUES ($1, $2)
