-- The changes of a key, newest first. $1 key, $2 text the line of the log before which, $3 how many
SELECT id::text AS line, at, actor, detail -> 'from' AS from, detail -> 'to' AS to
FROM audit_log WHERE action = 'config' AND subject = $1 AND id < $2::text::bigint ORDER BY id DESC LIMIT $3
