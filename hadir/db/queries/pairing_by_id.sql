-- One pairing. $1 uuid
SELECT p.*, m.display_name AS mitra_name FROM pairings p LEFT JOIN mitras m ON m.id = p.mitra_id WHERE p.id = $1
