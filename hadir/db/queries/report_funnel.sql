-- What became of the pairings that customers asked for in a time: a reroute is no demand. $1 timestamptz from, $2 timestamptz to
SELECT count(*) AS pairings,
       count(*) FILTER (WHERE status = 'accepted') AS accepted,
       count(*) FILTER (WHERE status = 'expired') AS expired,
       count(*) FILTER (WHERE status = 'cancelled') AS cancelled,
       round((percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM decided_at - created_at)::float8)
           FILTER (WHERE status = 'accepted'))::numeric, 3)::float8 AS accept_p50_s,
       round((percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM decided_at - created_at)::float8)
           FILTER (WHERE status = 'accepted'))::numeric, 3)::float8 AS accept_p95_s,
       round(avg(wave), 2)::float8 AS waves_avg
FROM pairings WHERE created_at >= $1 AND created_at < $2 AND NOT reroute
