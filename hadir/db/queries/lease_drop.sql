-- Gives a lease back. $1 name, $2 holder
DELETE FROM leases WHERE name = $1 AND holder = $2
