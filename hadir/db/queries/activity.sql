-- What operators did, and what became of pairings and instances, newest first. `key`: of this entry alone.
-- $1 float8 seconds back, $2 how many of each kind, so that many pairings leave room for the others
SELECT key, at, kind, subject, what, actor, mitra_id, took_s FROM (
    (SELECT 'operator:' || id AS key, at, 'operator' AS kind, subject, action AS what, actor,
            CASE WHEN action IN ('activate', 'deactivate', 'offline') THEN subject END AS mitra_id, NULL::float8 AS took_s
     FROM audit_log WHERE at > now() - make_interval(secs => $1::float8) ORDER BY at DESC LIMIT $2)
    UNION ALL
    (SELECT 'created:' || id, created_at, 'pairing', id::text, 'created', NULL, NULL, NULL
     FROM pairings WHERE created_at > now() - make_interval(secs => $1::float8) ORDER BY created_at DESC LIMIT $2)
    UNION ALL
    (SELECT 'decided:' || id, decided_at, 'pairing', id::text, status, NULL, mitra_id::text,
            extract(epoch FROM decided_at - created_at)::float8
     FROM pairings WHERE decided_at > now() - make_interval(secs => $1::float8) ORDER BY decided_at DESC LIMIT $2)
    UNION ALL
    (SELECT 'instance:' || id, at, 'instance', instance_id, what, NULL, NULL, NULL
     FROM instance_log WHERE at > now() - make_interval(secs => $1::float8) ORDER BY at DESC LIMIT $2)
) AS happened
ORDER BY at DESC, key DESC
