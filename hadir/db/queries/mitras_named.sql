-- Mitras whose name begins so, by name, of one state (as in mitras_page). One lower bound only: of two, the index takes
-- the first and reads all that is between them.
-- $1 text the beginning, in any case; $2 text, $3 uuid the lower-case name and id after which; $4 how many
SELECT p.*, m.display_name, m.created_at, lower(m.display_name) AS name_key, clock_timestamp() AS now
FROM mitras m JOIN mitra_presence p ON p.mitra_id = m.id
WHERE (lower(m.display_name) COLLATE "C", m.id) > (greatest(lower($1) COLLATE "C", $2 COLLATE "C"), $3::uuid)
  AND lower(m.display_name) COLLATE "C" < lower($1) || chr(1114111)
  AND {state}
ORDER BY lower(m.display_name) COLLATE "C", m.id LIMIT $4
