-- A database as large as it gets: {mitras} mitras, 4 % of them online, with logins, sessions, history, audit lines and series;
-- as many customers, a fifth as many pairings, offers, messages and payments.
-- Filled past triggers and foreign keys, which would take an hour, and indexed afterwards. By a superuser; used by
-- tests/db/test_plans.py and benchmarks/search.py.
SET session_replication_role = replica;
SET maintenance_work_mem = '256MB';
CREATE TEMP TABLE indexes AS
    SELECT indexrelid::regclass AS name, pg_get_indexdef(indexrelid) AS made
    FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
    WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND NOT relispartition
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid);
DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM indexes LOOP EXECUTE 'DROP INDEX ' || i.name; END LOOP; END $$;
INSERT INTO mitras (id, display_name)
    SELECT gen_random_uuid(), ('{{Budi,Siti,Agus,Dewi,Eko,Rina,Joko,Putri}}'::text[])[1 + n % 8] || ' ' || md5(n::text)
    FROM generate_series(3, {mitras}) AS n
    UNION ALL VALUES ('{one}'::uuid, 'One'), ('{two}', 'Two');
INSERT INTO mitra_presence (mitra_id, is_online, is_active, suspect_since, instance_id, open_sessions, changed_at, last_heartbeat_at)
    SELECT id, byte < 10, byte < 250, CASE WHEN byte < 1 THEN now() - random() * interval '60 s' END,
           CASE WHEN byte < 10 THEN 'host-' || byte END, (byte IN (0, 2, 3))::int,
           -- Who is out of service has not changed for long: not among those that were last changed.
           now() - CASE WHEN byte < 250 THEN random() * interval '25 days' ELSE interval '25 days' + random() * interval '5 days' END,
           now()
    FROM (SELECT id, get_byte(uuid_send(id), 1) AS byte FROM mitras) AS m;
INSERT INTO auth_sessions (id, subject_id, role, expires_at, revoked_at)
    SELECT gen_random_uuid(), mitra_id, 'mitra', now() + interval '1 day',
           CASE WHEN is_active THEN NULL ELSE now() - random() * interval '30 days' END
    FROM mitra_presence;
INSERT INTO presence_log (at, mitra_id, state, reason)
    SELECT now() + (get_byte(uuid_send(mitra_id), 2) % 3) * interval '30 days', mitra_id, 'online', 'connected'
    FROM mitra_presence;
INSERT INTO customers VALUES ('{customer}');
INSERT INTO customers SELECT mitra_id FROM mitra_presence;
INSERT INTO chat_sessions (id, customer_id, mitra_id, created_at, changed_at, status, payment_due_at, expires_at, ended_at)
    SELECT gen_random_uuid(), mitra_id, mitra_id, changed_at, changed_at, CASE WHEN open_sessions > 0 THEN 'active' ELSE 'ended' END,
           changed_at + interval '10 minutes',
           CASE WHEN open_sessions > 0 THEN now() + random() * interval '30 minutes' ELSE changed_at END,
           CASE WHEN open_sessions = 0 THEN now() - random() * interval '90 days' END
    FROM mitra_presence;
INSERT INTO pairings (id, customer_id, session_id, mitra_id, idempotency_key, status, wave, next_wave_at,
                      created_at, changed_at, expires_at, decided_at)
    SELECT gen_random_uuid(), customer_id, CASE WHEN n % 100 > 0 THEN id END, CASE WHEN n % 100 > 0 THEN mitra_id END, 'key',
           CASE WHEN n % 100 > 0 THEN 'accepted' ELSE 'searching' END, 1,
           CASE WHEN n % 100 = 0 THEN now() + random() * interval '8 s' END,
           created_at, changed_at, CASE WHEN n % 100 = 0 THEN now() ELSE changed_at END + interval '1 minute',
           CASE WHEN n % 100 > 0 THEN changed_at END
    FROM (SELECT *, row_number() OVER () AS n FROM chat_sessions LIMIT {mitras} / 5) AS s;
INSERT INTO pairing_offers (pairing_id, mitra_id, wave, status, offered_at)
    SELECT id, customer_id, 1, CASE status WHEN 'searching' THEN 'open' ELSE 'accepted' END, created_at FROM pairings;
INSERT INTO chat_messages (id, session_id, seq, sender, sender_id, client_id, body)
    SELECT gen_random_uuid(), session_id, 1, 'customer', customer_id, '1', 'Halo' FROM pairings WHERE session_id IS NOT NULL;
INSERT INTO payments (external_id, invoice_id, session_id, state, amount, created_at, changed_at)
    SELECT session_id, md5(id::text), session_id, CASE WHEN get_byte(uuid_send(id), 1) < 1 THEN 'refund_due' ELSE 'paid' END,
           50000, created_at, changed_at
    FROM pairings WHERE session_id IS NOT NULL;
INSERT INTO webhook_events (source, body, processed_at, outcome) SELECT 'xendit', '{{}}', now(), 'paid' FROM payments;
INSERT INTO centre_series (at, online, available, busy) SELECT now() - n * interval '10 s', 100, 50, 10 FROM generate_series(1, 60480) AS n;
INSERT INTO audit_log (actor, action, subject) SELECT 'operator', 'config', md5(n::text) FROM generate_series(1, 50000) AS n;
INSERT INTO instance_log (at, instance_id, name, what)
    SELECT now() - n * interval '10 minutes', 'host-' || n, 'host', 'started' FROM generate_series(1, 14400) AS n;
INSERT INTO centre_series (at, online) SELECT to_timestamp(n * 10), 1
    FROM generate_series(extract(epoch FROM now())::bigint / 10 - 100000, extract(epoch FROM now())::bigint / 10) AS n;
DO $$ DECLARE i record; BEGIN FOR i IN SELECT * FROM indexes LOOP EXECUTE i.made; END LOOP; END $$;
DROP TABLE indexes;
RESET maintenance_work_mem;
RESET session_replication_role;
