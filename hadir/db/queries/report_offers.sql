-- What became of the offers of the pairings that customers asked for in a time. $1 timestamptz from, $2 timestamptz to
SELECT coalesce(sum(o.offers), 0)::bigint AS offers, coalesce(sum(o.delivered), 0)::bigint AS delivered,
       coalesce(sum(o.seen), 0)::bigint AS seen, coalesce(sum(o.declined), 0)::bigint AS declined,
       coalesce(sum(o.accepted), 0)::bigint AS offers_accepted, coalesce(sum(o.taken), 0)::bigint AS offers_taken,
       coalesce(sum(o.expired), 0)::bigint AS offers_expired, coalesce(sum(o.cancelled), 0)::bigint AS offers_cancelled,
       coalesce(sum(o.withdrawn), 0)::bigint AS offers_withdrawn, coalesce(sum(o.open), 0)::bigint AS offers_open
FROM pairings p CROSS JOIN LATERAL (
    SELECT count(*) AS offers, count(delivered_at) AS delivered, count(seen_at) AS seen,
           count(*) FILTER (WHERE status = 'declined') AS declined,
           count(*) FILTER (WHERE status = 'accepted') AS accepted,
           count(*) FILTER (WHERE status = 'taken') AS taken,
           count(*) FILTER (WHERE status = 'expired') AS expired,
           count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
           count(*) FILTER (WHERE status = 'withdrawn') AS withdrawn,
           count(*) FILTER (WHERE status = 'open') AS open
    FROM pairing_offers WHERE pairing_id = p.id) AS o
WHERE p.created_at >= $1 AND p.created_at < $2 AND NOT p.reroute
