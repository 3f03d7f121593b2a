-- The counts of the slot that is nearest to now; in place of what somebody wrote of it, maybe by a clock
-- that was set back since.
-- $1 float8 seconds of a slot, then the columns in their order
INSERT INTO centre_series (at, online, suspect, available, busy, deactivated, sockets, pending_payment, active, waiting,
                           accept_p50_s, beats_per_s)
VALUES (to_timestamp(round(extract(epoch FROM clock_timestamp())::float8 / $1::float8) * $1::float8),
        $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (at) DO UPDATE SET
    (online, suspect, available, busy, deactivated, sockets, pending_payment, active, waiting, accept_p50_s, beats_per_s) = (
     excluded.online, excluded.suspect, excluded.available, excluded.busy, excluded.deactivated, excluded.sockets,
     excluded.pending_payment, excluded.active, excluded.waiting, excluded.accept_p50_s, excluded.beats_per_s)
