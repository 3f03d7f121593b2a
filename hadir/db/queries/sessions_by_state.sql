-- How many sessions are in each state; those that are over count for a day. Each from an index alone.
SELECT status, count(*) AS sessions FROM chat_sessions
WHERE status IN ('pending_payment', 'active') GROUP BY status
UNION ALL
SELECT status, count(*) FROM chat_sessions
WHERE ended_at > now() - interval '1 day' GROUP BY status
