-- What an operator did, in the transaction that does it. $1 who, $2 what, $3 to what, $4 jsonb details
INSERT INTO audit_log (actor, action, subject, detail) VALUES ($1, $2, $3, $4)
