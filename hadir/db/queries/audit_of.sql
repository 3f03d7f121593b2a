-- What operators did to one thing, in order. $1 text what, $2 how many
SELECT at, actor, action, detail AS details FROM audit_log WHERE subject = $1 ORDER BY id LIMIT $2
