-- Locks presence rows in id order, but for those that somebody else holds, and reads them with the login that each event
-- names (one without an end ends in the year 9999).
-- $1 uuid[] mitra ids, $2 uuid[] auth session ids (NULL where the event needs none)
SELECT p.*, s.subject_id, s.role, least(s.expires_at, '9999-12-31 00:00Z') AS expires_at, s.revoked_at,
       clock_timestamp() AS now
FROM unnest($1::uuid[], $2::uuid[]) AS i(mitra_id, wanted_sid)
JOIN mitra_presence p ON p.mitra_id = i.mitra_id
LEFT JOIN auth_sessions s ON s.id = i.wanted_sid
ORDER BY p.mitra_id
FOR UPDATE OF p SKIP LOCKED
