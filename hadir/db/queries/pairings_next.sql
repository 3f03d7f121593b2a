-- Pairings whose next wave is due, longest first; none past the deadline that is shown. $1 how many
SELECT id, wave + 1 AS wave, (SELECT count(*) FROM pairing_offers o WHERE o.pairing_id = p.id) AS offers,
    extract(epoch FROM clock_timestamp() - next_wave_at)::float8 AS late_s
FROM pairings p WHERE status = 'searching' AND next_wave_at <= clock_timestamp() AND expires_at > clock_timestamp()
ORDER BY next_wave_at LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED
