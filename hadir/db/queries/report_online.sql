-- How long mitras were online, a row a mitra and day, out of the lines of their log and the two around them.
-- A suspicion counts where the mitra came back, or switched itself off. One that ended offline counts until its last sign
-- of life, which is its own time, or that of the end where it was heard of only then; unless somebody else decided that
-- end: then its time is that of the decision. What goes on counts until now where the mitra is there, else until its last
-- sign of life.
-- `last`: the last mitra that was looked at, NULL: there was none. A row without a day has nothing else to say. One mitra
-- alone is looked at also where `mitras` has it no more.
-- $1 uuid the first mitra, $2 uuid the last, $3 how many, $4 timestamptz from, $5 timestamptz to,
-- $6 date[] the days of that time, $7 timestamptz[] when each begins, $8 timestamptz[] when each ends
WITH chosen AS MATERIALIZED (
    (SELECT id, display_name FROM mitras WHERE id BETWEEN $1::uuid AND $2::uuid ORDER BY id LIMIT $3)
    UNION ALL
    SELECT $1, NULL WHERE $1 = $2 AND NOT EXISTS (SELECT FROM mitras WHERE id = $1)
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
    SELECT t.mitra_id, t.at AS began,
           CASE WHEN t.next_at IS NULL THEN
                    CASE WHEN p.is_online AND p.suspect_since IS NULL THEN (SELECT clock_timestamp())
                         ELSE greatest(t.at, p.last_heartbeat_at) END
                WHEN t.state = 'online' OR t.next_state = 'online' THEN t.next_at
                WHEN t.next_reason NOT IN ('operator', 'deactivated', 'revoked', 'external') THEN t.next_at
                ELSE t.at END AS ended,
           count(*) FILTER (WHERE coalesce(t.was, 'offline') = 'offline')
               OVER (PARTITION BY t.mitra_id ORDER BY t.at, t.recorded_at) AS number
    FROM told t LEFT JOIN mitra_presence p ON p.mitra_id = t.mitra_id WHERE t.state <> 'offline'
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
