-- Ends searches whose deadline is past (see the function). $1 float8 seconds past the shown deadline, $2 how many
SELECT id, customer_id, late_s FROM pairings_expire($1, $2)
