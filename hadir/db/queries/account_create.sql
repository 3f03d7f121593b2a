-- An auth session for a subject, who is created where missing. Answers the session's id.
-- $1 uuid subject, $2 text role (mitra, customer, operator, viewer), $3 float8 seconds that the session lasts
WITH mitra AS (
    INSERT INTO mitras (id, display_name)
    SELECT $1::uuid, 'Mitra ' || left($1::uuid::text, 8) WHERE $2::text = 'mitra'
    ON CONFLICT (id) DO NOTHING
), customer AS (
    INSERT INTO customers (id) SELECT $1::uuid WHERE $2::text = 'customer'
    ON CONFLICT (id) DO NOTHING
)
INSERT INTO auth_sessions (id, subject_id, role, expires_at)
VALUES (gen_random_uuid(), $1::uuid, $2::text, now() + make_interval(secs => $3::float8))
RETURNING id
