-- What is kept: when a state of a mitra began, in the order in which it was written; what operators did, by whom and to
-- what, in the order of the log, which is that of `id`.

-- As before, and never before the line before it of the same mitra: who comes back from a suspicion does so at its last
-- sign of life, which may be where the suspicion begins, and a clock may be set back. Whoever reads a mitra's lines by
-- `at` and `recorded_at` reads what happened. The plan is one for all months, of which those that ended are left out.
CREATE OR REPLACE FUNCTION mitra_presence_began(was text, state text, old mitra_presence, new mitra_presence)
RETURNS timestamptz LANGUAGE plpgsql VOLATILE SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    began timestamptz := coalesce(
        CASE
            WHEN state = 'online' AND was = 'offline' THEN new.online_since
            WHEN state = 'online' THEN CASE WHEN new.reason <> 'external' THEN new.last_heartbeat_at END
            WHEN new.reason NOT IN ('operator', 'deactivated', 'revoked', 'external', 'status', 'http') THEN
                greatest(new.last_heartbeat_at, coalesce(old.online_since, new.online_since))
        END,
        clock_timestamp());
BEGIN
    RETURN coalesce(
        (SELECT l.at + interval '1 microsecond' FROM presence_log l
         WHERE l.mitra_id = new.mitra_id AND l.at >= began AND (l.at, l.recorded_at) >= (began, clock_timestamp())
         ORDER BY l.at DESC, l.recorded_at DESC LIMIT 1),
        began);
END $$;

CREATE INDEX IF NOT EXISTS audit_log_of_actor ON audit_log (actor, id DESC);
CREATE INDEX IF NOT EXISTS audit_log_of_action ON audit_log (action, id DESC);
CREATE INDEX IF NOT EXISTS audit_log_of_subject ON audit_log (subject, id DESC);
-- Logins that were revoked, by whose they were.
CREATE INDEX IF NOT EXISTS audit_log_of_login ON audit_log ((detail ->> 'subject_id'), id DESC) WHERE action = 'revoke';
