-- Writes decided rows back (they are locked). Adding to version vouches for the reason; the trigger sets the real one.
-- $1 … $13: arrays, one per column below; $14 bool[] whether more than the beat changed
UPDATE mitra_presence p
SET is_active = i.is_active, wants_online = i.wants_online, is_online = i.is_online, suspect_since = i.suspect_since,
    connection_id = i.connection_id, instance_id = i.instance_id, sid = i.sid, claimed_at = i.claimed_at,
    online_since = i.online_since, last_heartbeat_at = i.last_heartbeat_at, reason = i.reason, actor = i.actor,
    version = p.version + i.changed::int
FROM unnest($1::uuid[], $2::bool[], $3::bool[], $4::bool[], $5::timestamptz[], $6::text[], $7::text[], $8::uuid[],
            $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::text[], $13::text[], $14::bool[])
  AS i(mitra_id, is_active, wants_online, is_online, suspect_since, connection_id, instance_id, sid, claimed_at,
       online_since, last_heartbeat_at, reason, actor, changed)
WHERE p.mitra_id = i.mitra_id
RETURNING p.*, clock_timestamp() AS now
