-- The time here, by which everything is judged.
SELECT clock_timestamp()
