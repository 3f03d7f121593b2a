-- Mitras whose name begins so, by name, of one state (as in mitras_page).
-- $1 text the beginning, in any case; $2 text, $3 uuid the lower-case name and id after which; $4 how many
SELECT p.*, m.display_name, m.created_at, lower(m.display_name) AS name_key, clock_timestamp() AS now
FROM mitras m JOIN mitra_presence p ON p.mitra_id = m.id
WHERE lower(m.display_name) COLLATE "C" >= lower($1)
  AND lower(m.display_name) COLLATE "C" < lower($1) || chr(1114111)
  AND (lower(m.display_name) COLLATE "C", m.id) > ($2, $3::uuid) AND {state}
ORDER BY lower(m.display_name) COLLATE "C", m.id LIMIT $4
