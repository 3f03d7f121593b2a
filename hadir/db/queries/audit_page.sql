-- What operators did, newest first ({condition}: on who, what and to what). $1 text the line before which, $2 how many
SELECT id::text AS line, at, actor, action, subject, detail AS details
FROM audit_log WHERE id < $1::text::bigint AND {condition} ORDER BY id DESC LIMIT $2
