-- What a mitra's log says, newest first.
-- $1 uuid mitra, $2 timestamptz, $3 timestamptz the `at` and `recorded_at` before which, $4 how many
SELECT at, recorded_at, state, reason, connection_id, instance_id, actor
FROM presence_log
WHERE mitra_id = $1::uuid AND at <= $2 AND (at, recorded_at) < ($2, $3)
ORDER BY at DESC, recorded_at DESC LIMIT $4
