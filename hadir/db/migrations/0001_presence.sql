-- Presence: identity (adopted where other services made it), the one row per mitra, and what makes any
-- program's write count. Plain SQL, PostgreSQL 14 and later.

CREATE TABLE IF NOT EXISTS mitras (
    id uuid PRIMARY KEY
);
ALTER TABLE mitras
    ADD COLUMN IF NOT EXISTS display_name text NOT NULL DEFAULT '',
    ADD COLUMN IF NOT EXISTS max_sessions integer CHECK (max_sessions > 0),
    ADD COLUMN IF NOT EXISTS created_at timestamptz NOT NULL DEFAULT now();

CREATE TABLE IF NOT EXISTS customers (
    id uuid PRIMARY KEY
);

CREATE TABLE IF NOT EXISTS auth_sessions (
    id uuid PRIMARY KEY
);
ALTER TABLE auth_sessions
    ADD COLUMN IF NOT EXISTS subject_id uuid,
    ADD COLUMN IF NOT EXISTS role text,
    ADD COLUMN IF NOT EXISTS expires_at timestamptz,
    ADD COLUMN IF NOT EXISTS revoked_at timestamptz;

-- Tables that were there before must fit: one clear error instead of a strange one later.
DO $$
DECLARE
    expected record;
    found text;
BEGIN
    FOR expected IN
        SELECT * FROM (VALUES
            ('mitras', 'id', 'uuid'), ('mitras', 'display_name', 'text'), ('mitras', 'max_sessions', 'integer'),
            ('mitras', 'created_at', 'timestamp with time zone'),
            ('customers', 'id', 'uuid'),
            ('auth_sessions', 'id', 'uuid'), ('auth_sessions', 'subject_id', 'uuid'), ('auth_sessions', 'role', 'text'),
            ('auth_sessions', 'expires_at', 'timestamp with time zone'),
            ('auth_sessions', 'revoked_at', 'timestamp with time zone')
        ) AS t(tab, col, type)
    LOOP
        SELECT format_type(a.atttypid, NULL) INTO found
        FROM pg_attribute a
        WHERE a.attrelid = to_regclass(expected.tab) AND a.attname = expected.col AND NOT a.attisdropped;
        IF found = 'character varying' AND expected.type = 'text' THEN
            found := 'text';
        END IF;
        IF found IS DISTINCT FROM expected.type THEN
            RAISE EXCEPTION 'The existing table % has column % of type %, but % is needed.',
                expected.tab, expected.col, coalesce(found, 'none'), expected.type;
        END IF;
    END LOOP;
    FOR expected IN SELECT unnest(ARRAY['mitras', 'customers', 'auth_sessions']) AS tab LOOP
        IF NOT EXISTS (
            SELECT FROM pg_index i
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
            WHERE i.indrelid = to_regclass(expected.tab) AND i.indisunique AND i.indnkeyatts = 1
              AND i.indpred IS NULL AND a.attname = 'id'
        ) THEN
            RAISE EXCEPTION 'The existing table % has no primary or unique key on its column id, which is needed.',
                expected.tab;
        END IF;
    END LOOP;
END $$;

CREATE INDEX IF NOT EXISTS auth_sessions_subject ON auth_sessions (subject_id);
CREATE INDEX IF NOT EXISTS auth_sessions_revoked ON auth_sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE app_config (
    key text PRIMARY KEY,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_by text
);

CREATE TABLE instances (
    id text PRIMARY KEY,
    name text NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    beat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL CHECK (state IN ('starting', 'ready', 'draining')),
    sockets integer NOT NULL DEFAULT 0
);

CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    expires_at timestamptz NOT NULL
);

-- One row: whether expiry is held (R5), since when, how many are due, and whether an operator let it go on.
CREATE TABLE expiry_hold (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    since timestamptz,
    due integer NOT NULL DEFAULT 0,
    released_at timestamptz,
    released_by text
);
INSERT INTO expiry_hold DEFAULT VALUES;

CREATE TABLE mitra_presence (
    mitra_id uuid PRIMARY KEY REFERENCES mitras (id) ON DELETE CASCADE,
    version bigint NOT NULL DEFAULT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
    is_active boolean NOT NULL DEFAULT true,
    wants_online boolean NOT NULL DEFAULT true,
    is_online boolean NOT NULL DEFAULT false,
    suspect_since timestamptz,
    connection_id text,
    instance_id text,
    sid uuid,
    claimed_at timestamptz,
    open_sessions integer NOT NULL DEFAULT 0,
    max_sessions integer NOT NULL DEFAULT 1,
    last_session_at timestamptz,
    online_since timestamptz,
    last_heartbeat_at timestamptz,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reason text NOT NULL DEFAULT 'created',
    actor text
) WITH (fillfactor = 80);  -- room for beats, which change no indexed column (HOT)

CREATE INDEX mitra_presence_changed ON mitra_presence (changed_at);
CREATE INDEX mitra_presence_suspect ON mitra_presence (suspect_since) WHERE suspect_since IS NOT NULL;
CREATE INDEX mitra_presence_instance ON mitra_presence (instance_id) WHERE instance_id IS NOT NULL;
CREATE INDEX mitra_presence_online ON mitra_presence (mitra_id) WHERE is_online;
CREATE INDEX mitra_presence_inactive ON mitra_presence (mitra_id) WHERE NOT is_active;

CREATE TABLE chat_sessions (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    mitra_id uuid NOT NULL REFERENCES mitras (id) ON DELETE CASCADE,
    status text NOT NULL CHECK (status IN ('pending_payment', 'active', 'ended', 'expired', 'cancelled')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    payment_due_at timestamptz,
    started_at timestamptz,
    expires_at timestamptz,
    ended_at timestamptz,
    end_reason text
);
CREATE INDEX chat_sessions_open ON chat_sessions (mitra_id) WHERE status IN ('pending_payment', 'active');

CREATE TABLE presence_log (
    at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    mitra_id uuid NOT NULL,
    state text NOT NULL,
    reason text NOT NULL,
    connection_id text,
    instance_id text,
    actor text
) PARTITION BY RANGE (at);
CREATE TABLE presence_log_default PARTITION OF presence_log DEFAULT;
CREATE INDEX presence_log_mitra ON presence_log (mitra_id, at DESC, recorded_at DESC);

-- The month's partition, with what the default partition caught of it meanwhile; false where it exists already.
-- Whoever writes the log is kept waiting for half a second at most: then it gives up and answers NULL.
CREATE FUNCTION presence_log_ensure_month(month date) RETURNS boolean
LANGUAGE plpgsql SET lock_timeout = '500ms' SET timezone = 'UTC' AS $$
DECLARE
    first_day date := date_trunc('month', month)::date;
    next_month date := (date_trunc('month', month) + interval '1 month')::date;
    part text := 'presence_log_' || to_char(month, 'YYYY_MM');
BEGIN
    IF to_regclass(part) IS NOT NULL THEN
        RETURN false;
    END IF;
    LOCK TABLE presence_log_default IN ACCESS EXCLUSIVE MODE;
    IF to_regclass(part) IS NOT NULL THEN  -- by somebody whom we waited for
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE presence_log INCLUDING DEFAULTS INCLUDING INDEXES)', part);
    EXECUTE format(
        'WITH moved AS (DELETE FROM presence_log_default WHERE at >= %L AND at < %L RETURNING *)
         INSERT INTO %I SELECT * FROM moved', first_day, next_month, part);
    EXECUTE format('ALTER TABLE presence_log ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   part, first_day, next_month);
    RETURN true;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN NULL;
END $$;

-- Forgets the months that ended before `day`, in the default partition too; answers how many partitions went.
-- Gives up like the above.
CREATE FUNCTION presence_log_drop_before(day date) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '500ms' SET timezone = 'UTC' AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    DELETE FROM presence_log_default WHERE at < date_trunc('month', day);
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'presence_log'::regclass AND c.relname ~ '^presence_log_[0-9]{4}_[0-9]{2}$'
          AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= day
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    RETURN NULL;
END $$;

SELECT presence_log_ensure_month((now() AT TIME ZONE 'UTC' + n * interval '1 month')::date)
FROM generate_series(0, 2) AS n;

CREATE FUNCTION mitra_presence_state(is_online boolean, suspect_since timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN NOT is_online THEN 'offline' WHEN suspect_since IS NULL THEN 'online' ELSE 'suspect' END
$$;

-- A version later than any that was, also when the clock was set back.
CREATE FUNCTION mitra_presence_next(version bigint) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT greatest(version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
$$;

CREATE FUNCTION mitra_presence_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.is_online := NEW.is_online AND NEW.is_active;
    NEW.suspect_since := CASE WHEN NEW.is_online THEN NEW.suspect_since END;
    NEW.online_since := CASE WHEN NEW.is_online THEN coalesce(NEW.online_since, clock_timestamp()) END;
    IF (NEW.is_online OR NOT NEW.is_active) AND NEW.reason = 'created' THEN
        NEW.reason := 'external';
    END IF;
    NEW.version := mitra_presence_next(0);
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE TRIGGER mitra_presence_insert BEFORE INSERT ON mitra_presence
FOR EACH ROW EXECUTE FUNCTION mitra_presence_insert();

-- Versions, and another program's writes. Who adds to `version`, or gives a new reason, vouches for the reason.
CREATE FUNCTION mitra_presence_update() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    vouched boolean := NEW.version <> OLD.version OR NEW.reason IS DISTINCT FROM OLD.reason;
    unbeaten mitra_presence%ROWTYPE;
BEGIN
    IF NOT vouched AND NEW.is_online <> OLD.is_online AND NEW.wants_online = OLD.wants_online
       AND (NEW.is_active OR NOT NEW.is_online) THEN
        NEW.wants_online := NEW.is_online;  -- another program's switch is a switch
    END IF;
    NEW.is_online := NEW.is_online AND NEW.is_active;
    IF NOT NEW.is_online OR (NOT OLD.is_online AND NEW.suspect_since IS NOT DISTINCT FROM OLD.suspect_since) THEN
        NEW.suspect_since := NULL;
    END IF;
    NEW.online_since := CASE WHEN NEW.is_online THEN coalesce(NEW.online_since, clock_timestamp()) END;
    NEW.version := OLD.version;
    NEW.changed_at := OLD.changed_at;

    unbeaten := NEW;
    unbeaten.last_heartbeat_at := OLD.last_heartbeat_at;
    IF unbeaten IS NOT DISTINCT FROM OLD THEN
        RETURN NEW;
    END IF;
    -- Capacity moves without anybody's reason (sessions, another limit): the last one stays.
    IF NOT vouched AND
       (NEW.is_active, NEW.wants_online, NEW.is_online, NEW.suspect_since, NEW.connection_id, NEW.instance_id, NEW.sid)
       IS DISTINCT FROM
       (OLD.is_active, OLD.wants_online, OLD.is_online, OLD.suspect_since, OLD.connection_id, OLD.instance_id, OLD.sid)
    THEN
        NEW.reason := 'external';
        NEW.actor := CASE WHEN NEW.actor IS DISTINCT FROM OLD.actor THEN NEW.actor END;
    END IF;
    NEW.version := mitra_presence_next(OLD.version);
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;

-- All columns but last_heartbeat_at: mirrored beats run no trigger.
CREATE TRIGGER mitra_presence_update BEFORE UPDATE OF
    mitra_id, version, is_active, wants_online, is_online, suspect_since, connection_id, instance_id, sid,
    claimed_at, open_sessions, max_sessions, last_session_at, online_since, changed_at, reason, actor
ON mitra_presence FOR EACH ROW EXECUTE FUNCTION mitra_presence_update();

-- When a state began, so that a mitra's history sorted by it is in the order in which it happened: an end at the
-- last sign of life, which is never before the mitra came online; what somebody decided, when it was written.
CREATE FUNCTION mitra_presence_began(was text, state text, old mitra_presence, new mitra_presence)
RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT coalesce(
        CASE
            WHEN state = 'online' AND was = 'offline' THEN new.online_since
            WHEN state = 'online' THEN
                CASE WHEN new.last_heartbeat_at IS DISTINCT FROM old.last_heartbeat_at THEN new.last_heartbeat_at END
            WHEN new.reason NOT IN ('operator', 'deactivated', 'revoked', 'external', 'status', 'http') THEN
                greatest(new.last_heartbeat_at, coalesce(old.online_since, new.online_since))
        END,
        clock_timestamp())
$$;

-- Every change of state is a line of the log, and who is taken out of service is logged out.
CREATE FUNCTION mitra_presence_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was text := mitra_presence_state(coalesce(OLD.is_online, false), OLD.suspect_since);
    was_active boolean := coalesce(OLD.is_active, true);
    state text := mitra_presence_state(NEW.is_online, NEW.suspect_since);
BEGIN
    IF (state, NEW.is_active) = (was, was_active) THEN
        RETURN NULL;
    END IF;
    INSERT INTO presence_log (at, mitra_id, state, reason, connection_id, instance_id, actor) VALUES (
        mitra_presence_began(was, state, OLD, NEW), NEW.mitra_id, state, NEW.reason,
        coalesce(NEW.connection_id, OLD.connection_id), coalesce(NEW.instance_id, OLD.instance_id), NEW.actor);
    IF was_active AND NOT NEW.is_active THEN
        UPDATE auth_sessions SET revoked_at = clock_timestamp()
        WHERE subject_id = NEW.mitra_id AND role = 'mitra' AND revoked_at IS NULL;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER mitra_presence_changed AFTER INSERT OR UPDATE OF is_active, is_online, suspect_since
ON mitra_presence FOR EACH ROW EXECUTE FUNCTION mitra_presence_changed();

-- A mitra's own limit, else the configured one, else 1. An unfit value in app_config must not stop a new mitra.
CREATE FUNCTION mitra_capacity(own integer) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT coalesce(own, (
        SELECT least(greatest(value::numeric, 1), 1000000)::integer FROM app_config
        WHERE key = 'max_sessions' AND jsonb_typeof(value) = 'number'), 1)
$$;

CREATE FUNCTION mitras_after_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO mitra_presence (mitra_id, max_sessions) VALUES (NEW.id, mitra_capacity(NEW.max_sessions))
    ON CONFLICT (mitra_id) DO NOTHING;
    RETURN NULL;
END $$;
CREATE TRIGGER mitras_after_insert AFTER INSERT ON mitras FOR EACH ROW EXECUTE FUNCTION mitras_after_insert();

CREATE FUNCTION mitras_after_resize() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE mitra_presence SET max_sessions = mitra_capacity(NEW.max_sessions)
    WHERE mitra_id = NEW.id AND max_sessions <> mitra_capacity(NEW.max_sessions);
    RETURN NULL;
END $$;
CREATE TRIGGER mitras_after_resize AFTER UPDATE OF max_sessions ON mitras
FOR EACH ROW EXECUTE FUNCTION mitras_after_resize();

INSERT INTO mitra_presence (mitra_id, max_sessions) SELECT id, mitra_capacity(max_sessions) FROM mitras;

-- Open sessions are counted anew, never added up. The rows are locked first, and counted by a later statement:
-- its snapshot then has what the transaction that we waited for committed.
CREATE FUNCTION chat_sessions_recount(affected uuid[], newest timestamptz[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM mitra_presence WHERE mitra_id = ANY (affected) ORDER BY mitra_id FOR UPDATE;
    UPDATE mitra_presence p
    SET open_sessions = s.open, last_session_at = greatest(p.last_session_at, s.newest)
    FROM (
        SELECT m.id, m.newest, (
            SELECT count(*) FROM chat_sessions c
            WHERE c.mitra_id = m.id AND c.status IN ('pending_payment', 'active')) AS open
        FROM unnest(affected, newest) AS m(id, newest)
    ) AS s
    WHERE p.mitra_id = s.id
      AND (p.open_sessions <> s.open OR p.last_session_at IS DISTINCT FROM greatest(p.last_session_at, s.newest));
END $$;

CREATE FUNCTION chat_sessions_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    affected uuid[];
    newest timestamptz[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(mitra_id), array_agg(newest_of) INTO affected, newest
        FROM (SELECT mitra_id, max(created_at) AS newest_of FROM new_rows GROUP BY mitra_id) AS i;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg(mitra_id), array_agg(NULL::timestamptz) INTO affected, newest
        FROM (SELECT DISTINCT mitra_id FROM old_rows) AS i;
    ELSE
        -- Only where it makes a difference: what else is written about a session locks no mitra.
        WITH o AS (SELECT id, mitra_id, created_at, status IN ('pending_payment', 'active') FROM old_rows),
             n AS (SELECT id, mitra_id, created_at, status IN ('pending_payment', 'active') FROM new_rows),
             left_behind AS (TABLE o EXCEPT TABLE n),
             come AS (TABLE n EXCEPT TABLE o)
        SELECT array_agg(mitra_id), array_agg(newest_of) INTO affected, newest
        FROM (
            SELECT mitra_id, max(created_at) AS newest_of
            FROM (SELECT mitra_id, NULL AS created_at FROM left_behind
                  UNION ALL SELECT mitra_id, created_at FROM come) AS moved
            GROUP BY mitra_id
        ) AS i;
    END IF;
    IF affected IS NOT NULL THEN
        PERFORM chat_sessions_recount(affected, newest);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chat_sessions_inserted AFTER INSERT ON chat_sessions
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION chat_sessions_changed();
CREATE TRIGGER chat_sessions_updated AFTER UPDATE ON chat_sessions
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION chat_sessions_changed();
CREATE TRIGGER chat_sessions_deleted AFTER DELETE ON chat_sessions
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION chat_sessions_changed();
