-- Ends sessions that time has ended (see the function). $1 how many
SELECT id, customer_id, mitra_id, status, late_s FROM sessions_due($1)
