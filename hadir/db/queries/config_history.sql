-- The last changes of a key, newest first. $1 key, $2 how many
SELECT at, actor, detail -> 'from' AS from, detail -> 'to' AS to
FROM audit_log WHERE action = 'config' AND subject = $1 ORDER BY id DESC LIMIT $2
