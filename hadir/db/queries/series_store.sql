-- The counts of the slot that is nearest to now; nothing where somebody has written it.
-- $1 float8 seconds of a slot, then the columns in their order
INSERT INTO centre_series (at, online, suspect, available, busy, deactivated, sockets, pending_payment, active, waiting,
                           accept_p50_s, beats_per_s)
VALUES (to_timestamp(round(extract(epoch FROM clock_timestamp())::float8 / $1::float8) * $1::float8),
        $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING
