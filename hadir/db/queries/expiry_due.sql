-- Suspects whose grace is over, longest first. $1 grace (s), $2 long grace (s), $3 reasons that have the long one, $4 limit,
-- $5 bool only those whose instance is proven dead. A suspicion that is to come is from before the clock was set back.
SELECT mitra_id, version, reason, count(*) FILTER (WHERE reason <> 'instance_died') OVER () AS unproven
FROM mitra_presence
WHERE (suspect_since <= now() - make_interval(secs => $1::float8)
       AND (reason <> ALL ($3::text[]) OR suspect_since <= now() - make_interval(secs => $2::float8))
    OR suspect_since > now() + interval '1 second')
  AND (NOT $5 OR reason = 'instance_died')
ORDER BY suspect_since LIMIT $4
