-- The live counts where Postgres alone judges. A socket that a living instance holds is there until somebody has judged
-- otherwise: nobody is obliged to have copied its beats. $1 how old any other beat may be (s), $2 the living instances
SELECT count(*) AS online,
       count(*) FILTER (WHERE suspect_since IS NOT NULL) AS suspect,
       count(*) FILTER (WHERE suspect_since IS NULL AND open_sessions < max_sessions
           AND (instance_id = ANY ($2::text[])
               OR last_heartbeat_at >= clock_timestamp() - make_interval(secs => $1::float8))) AS available,
       count(*) FILTER (WHERE suspect_since IS NULL AND open_sessions >= max_sessions) AS busy,
       (SELECT count(*) FROM mitra_presence WHERE NOT is_active) AS deactivated,
       clock_timestamp() AS now
FROM mitra_presence WHERE is_online
