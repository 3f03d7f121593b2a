-- Beats into Postgres, never lowering (but what is from before the clock was set back), without waiting for anybody's row lock (HOT: no index has the column).
-- $1 uuid[] ids, $2 float8[] ages in seconds
UPDATE mitra_presence p
SET last_heartbeat_at = clock_timestamp() - make_interval(secs => i.age)
FROM unnest($1::uuid[], $2::float8[]) AS i(mitra_id, age)
WHERE p.mitra_id = i.mitra_id
  AND p.mitra_id IN (
    SELECT q.mitra_id FROM mitra_presence q WHERE q.mitra_id = ANY ($1::uuid[]) ORDER BY q.mitra_id FOR UPDATE SKIP LOCKED)
  AND (p.last_heartbeat_at IS NULL OR p.last_heartbeat_at < clock_timestamp() - make_interval(secs => i.age)
       OR p.last_heartbeat_at > clock_timestamp() + interval '1 second')
