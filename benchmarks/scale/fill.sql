-- {mitras} mitras, nine of ten online at fifty instances that nobody knows, one of eleven of those busy, 2 % deactivated;
-- past triggers and foreign keys, which would take minutes. Beats are of a time to come: nobody is stale after a long fill.
SET session_replication_role = replica;
INSERT INTO mitras (id, display_name) SELECT gen_random_uuid(), 'Mitra ' || n FROM generate_series(1, {mitras}) AS n;
INSERT INTO mitra_presence (mitra_id, is_active, wants_online, is_online, connection_id, instance_id, sid, claimed_at,
                            open_sessions, last_session_at, online_since, last_heartbeat_at, changed_at, reason)
    SELECT id, dice < 98, online, online, CASE WHEN online THEN gen_random_uuid() END,
           CASE WHEN online THEN 'made-up-' || dice % 50 END, gen_random_uuid(), changed_at,
           (dice BETWEEN 10 AND 17)::int, CASE WHEN dice % 2 = 0 THEN changed_at END,
           CASE WHEN online THEN changed_at END, CASE WHEN online THEN now() + interval '1 hour' END, changed_at,
           CASE WHEN online THEN 'connected' ELSE 'goodbye' END
    FROM (SELECT id, dice, dice < 90 AS online, now() - random() * interval '30 days' AS changed_at
          FROM (SELECT id, floor(random() * 100)::int AS dice FROM mitras) AS diced) AS m;
INSERT INTO auth_sessions (id, subject_id, role, expires_at)
    SELECT sid, mitra_id, 'mitra', now() + interval '1 day' FROM mitra_presence WHERE is_online;
RESET session_replication_role;
