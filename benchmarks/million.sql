-- A database as large as it gets: {mitras} mitras, 4 % of them online, with logins, sessions, history and audit lines.
-- Filled past the triggers, which would take an hour. Used by tests/db/test_plans.py and benchmarks/search.py.
ALTER TABLE mitras DISABLE TRIGGER USER;
ALTER TABLE mitra_presence DISABLE TRIGGER USER;
ALTER TABLE chat_sessions DISABLE TRIGGER USER;
INSERT INTO mitras (id, display_name)
    SELECT gen_random_uuid(), ('{{Budi,Siti,Agus,Dewi,Eko,Rina,Joko,Putri}}'::text[])[1 + n % 8] || ' ' || md5(n::text)
    FROM generate_series(3, {mitras}) AS n
    UNION ALL VALUES ('{one}'::uuid, 'One'), ('{two}', 'Two');
INSERT INTO mitra_presence (mitra_id, is_online, is_active, suspect_since, instance_id, open_sessions, changed_at, last_heartbeat_at)
    SELECT id, byte < 10, byte < 250, CASE WHEN byte < 1 THEN now() - random() * interval '60 s' END,
           CASE WHEN byte < 10 THEN 'host-' || byte END, (byte IN (0, 2, 3))::int,
           now() - random() * interval '30 days', now()
    FROM (SELECT id, get_byte(uuid_send(id), 1) AS byte FROM mitras) AS m;
INSERT INTO auth_sessions (id, subject_id, role, expires_at, revoked_at)
    SELECT gen_random_uuid(), mitra_id, 'mitra', now() + interval '1 day',
           CASE WHEN is_active THEN NULL ELSE now() - random() * interval '30 days' END
    FROM mitra_presence;
INSERT INTO presence_log (at, mitra_id, state, reason)
    SELECT now() + (get_byte(uuid_send(mitra_id), 2) % 3) * interval '30 days', mitra_id, 'online', 'connected'
    FROM mitra_presence;
INSERT INTO customers VALUES ('{customer}');
INSERT INTO chat_sessions (id, customer_id, mitra_id, status, ended_at)
    SELECT gen_random_uuid(), '{customer}', mitra_id, CASE WHEN open_sessions > 0 THEN 'active' ELSE 'ended' END,
           CASE WHEN open_sessions = 0 THEN now() - random() * interval '90 days' END
    FROM mitra_presence;
INSERT INTO audit_log (actor, action, subject) SELECT 'operator', 'config', md5(n::text) FROM generate_series(1, 50000) AS n;
ALTER TABLE mitras ENABLE TRIGGER USER;
ALTER TABLE mitra_presence ENABLE TRIGGER USER;
ALTER TABLE chat_sessions ENABLE TRIGGER USER;
