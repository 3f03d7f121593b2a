-- How many pairings search and for how long the oldest has, and how long those searched that were accepted last: at
-- most a thousand of the last fifteen minutes.
SELECT searching.waiting, searching.oldest_s, accepted.accept_p50_s, accepted.accept_p95_s
FROM (
    SELECT count(*) AS waiting, extract(epoch FROM now() - min(created_at))::float8 AS oldest_s
    FROM pairings WHERE status = 'searching'
) AS searching, (
    SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY took_s) AS accept_p50_s,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY took_s) AS accept_p95_s
    FROM (SELECT extract(epoch FROM decided_at - created_at)::float8 AS took_s FROM pairings
          WHERE status = 'accepted' AND decided_at > now() - interval '15 minutes'
          ORDER BY decided_at DESC LIMIT 1000) AS times
) AS accepted
