-- How long mitras were online, a row a mitra and day, out of the lines of their log and the two around them.
-- A suspicion counts where the mitra came back. One that ended offline counts until its last sign of life, which is its
-- own time, or that of the end where it was heard of only then; unless somebody decided that end: then its time is
-- that of the decision. What goes on counts until now, a suspicion until its own time.
-- `last`: the last mitra that was looked at, NULL: there was none. A row without a day has nothing else to say.
-- $1 uuid the first mitra, $2 uuid the last, $3 how many, $4 timestamptz from, $5 timestamptz to,
-- $6 date[] the days of that time, $7 timestamptz[] when each begins, $8 timestamptz[] when each ends
WITH chosen AS MATERIALIZED (
    SELECT id, display_name FROM mitras WHERE id BETWEEN $1::uuid AND $2::uuid ORDER BY id LIMIT $3
), lines AS (
    SELECT c.id AS mitra_id, l.* FROM chosen c CROSS JOIN LATERAL (
        (SELECT at, recorded_at, state, reason FROM presence_log
         WHERE mitra_id = c.id AND at < $4 ORDER BY at DESC, recorded_at DESC LIMIT 1)
        UNION ALL
        (SELECT at, recorded_at, state, reason FROM presence_log WHERE mitra_id = c.id AND at >= $4 AND at < $5)
        UNION ALL
        (SELECT at, recorded_at, state, reason FROM presence_log
         WHERE mitra_id = c.id AND at >= $5 ORDER BY at, recorded_at LIMIT 1)) AS l
), told AS (
    SELECT mitra_id, at, recorded_at, state, lag(state) OVER history AS was,
           lead(at) OVER history AS next_at, lead(state) OVER history AS next_state, lead(reason) OVER history AS next_reason
    FROM lines WINDOW history AS (PARTITION BY mitra_id ORDER BY at, recorded_at)
), counted AS (
    SELECT mitra_id, at AS began,
           CASE WHEN state = 'online' OR next_state = 'online' THEN coalesce(next_at, (SELECT clock_timestamp()))
                WHEN next_reason NOT IN ('operator', 'deactivated', 'revoked', 'external', 'status', 'http') THEN next_at
                ELSE at END AS ended,
           count(*) FILTER (WHERE state = 'online' AND coalesce(was, 'offline') = 'offline')
               OVER (PARTITION BY mitra_id ORDER BY at, recorded_at) AS number
    FROM told WHERE state <> 'offline'
), intervals AS (
    SELECT mitra_id, min(began) AS began, max(ended) AS ended FROM counted GROUP BY mitra_id, number
), cut AS (
    SELECT i.mitra_id, d.day, greatest(i.began, d.starts) AS began, least(i.ended, d.ends) AS ended
    FROM intervals i JOIN unnest($6::date[], $7::timestamptz[], $8::timestamptz[]) AS d(day, starts, ends)
      ON i.began < d.ends AND i.ended > d.starts
), summed AS (
    SELECT mitra_id, day, round(sum(extract(epoch FROM ended - began))::numeric, 3)::float8 AS online_s, count(*) AS intervals
    FROM cut WHERE began < ended GROUP BY mitra_id, day
)
SELECT s.day, c.id AS mitra_id, c.display_name, s.online_s, s.intervals, (SELECT max(id::text) FROM chosen) AS last
FROM (SELECT) AS one LEFT JOIN (summed s JOIN chosen c ON c.id = s.mitra_id) ON true
ORDER BY c.id, s.day
