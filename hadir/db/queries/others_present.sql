-- How many mitras besides these are online, or were until a moment ago.
-- $1 uuid[] these mitras, $2 float8 seconds that the moment lasts
SELECT count(*)
FROM mitra_presence
WHERE (is_online OR changed_at > now() - make_interval(secs => $2::float8))
  AND mitra_id <> ALL ($1::uuid[])
