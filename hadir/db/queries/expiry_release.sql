-- An operator lets a hold go. $1 who. No row when nothing is held.
UPDATE expiry_hold SET released_at = clock_timestamp(), released_by = $1 WHERE since IS NOT NULL RETURNING due
