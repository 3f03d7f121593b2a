-- Who can take work, whom to offer first at the head, where Postgres alone judges.
-- $1 float8 how old a beat may be (s), $2 the living instances, whose sockets are there (as in counts.sql), $3 how many
SELECT p.mitra_id
FROM mitra_presence p
WHERE p.is_online AND p.suspect_since IS NULL AND p.open_sessions < p.max_sessions
  AND (p.instance_id = ANY ($2::text[])
      OR p.last_heartbeat_at >= clock_timestamp() - make_interval(secs => $1::float8))
ORDER BY p.open_sessions, p.last_session_at NULLS FIRST, p.mitra_id LIMIT $3
