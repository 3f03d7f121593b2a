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
            WHERE i.indrelid = to_regclass(expected.tab) AND i.indisunique AND i.indnkeyatts = 1 AND a.attname = 'id'
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

-- The month's partition, with what the default partition caught of it meanwhile. Gives up rather than stop a connect.
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
    EXECUTE format('CREATE TABLE %I (LIKE presence_log INCLUDING DEFAULTS INCLUDING INDEXES)', part);
    LOCK TABLE presence_log_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format(
        'WITH moved AS (DELETE FROM presence_log_default WHERE at >= %L AND at < %L RETURNING *)
         INSERT INTO %I SELECT * FROM moved', first_day, next_month, part);
    EXECUTE format('ALTER TABLE presence_log ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                   part, first_day, next_month);
    RETURN true;
END $$;

-- Drops the partitions of months that ended before `day`; answers how many.
CREATE FUNCTION presence_log_drop_before(day date) RETURNS integer
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    part text;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'presence_log'::regclass AND c.relname ~ '^presence_log_[0-9]{4}_[0-9]{2}$'
          AND to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month' <= day
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;

SELECT presence_log_ensure_month((now() + n * interval '1 month')::date) FROM generate_series(0, 2) AS n;

CREATE FUNCTION mitra_presence_state(is_online boolean, suspect_since timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN NOT is_online THEN 'offline' WHEN suspect_since IS NULL THEN 'online' ELSE 'suspect' END
$$;

-- Versions, and another program's writes. Who adds to `version` (or gives a new reason) vouches for the reason.
CREATE FUNCTION mitra_presence_before() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    vouched boolean := NEW.version <> OLD.version OR NEW.reason IS DISTINCT FROM OLD.reason;
BEGIN
    NEW.version := OLD.version;
    NEW.changed_at := OLD.changed_at;
    IF (NEW.is_active, NEW.wants_online, NEW.is_online, NEW.suspect_since, NEW.connection_id, NEW.instance_id, NEW.sid)
       IS NOT DISTINCT FROM
       (OLD.is_active, OLD.wants_online, OLD.is_online, OLD.suspect_since, OLD.connection_id, OLD.instance_id, OLD.sid)
    THEN
        IF (NEW.open_sessions, NEW.max_sessions, NEW.last_session_at, NEW.reason, NEW.actor)
           IS NOT DISTINCT FROM
           (OLD.open_sessions, OLD.max_sessions, OLD.last_session_at, OLD.reason, OLD.actor)
        THEN
            RETURN NEW;  -- a beat at most
        END IF;
    ELSIF NOT vouched THEN
        NEW.reason := 'external';
        IF NEW.actor IS NOT DISTINCT FROM OLD.actor THEN
            NEW.actor := NULL;
        END IF;
        IF NEW.is_online <> OLD.is_online AND NEW.wants_online = OLD.wants_online THEN
            NEW.wants_online := NEW.is_online;  -- another program's switch is a switch
        END IF;
    END IF;
    IF NOT NEW.is_active THEN
        NEW.is_online := false;
    END IF;
    IF NOT NEW.is_online OR (NOT OLD.is_online AND NEW.suspect_since IS NOT DISTINCT FROM OLD.suspect_since) THEN
        NEW.suspect_since := NULL;
    END IF;
    NEW.online_since := CASE WHEN NEW.is_online THEN coalesce(NEW.online_since, clock_timestamp()) END;
    NEW.version := greatest(OLD.version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
    NEW.changed_at := clock_timestamp();
    RETURN NEW;
END $$;

-- All columns but last_heartbeat_at: mirrored beats run no trigger.
CREATE TRIGGER mitra_presence_before BEFORE UPDATE OF
    version, is_active, wants_online, is_online, suspect_since, connection_id, instance_id, sid, open_sessions,
    max_sessions, last_session_at, online_since, changed_at, reason, actor
ON mitra_presence FOR EACH ROW EXECUTE FUNCTION mitra_presence_before();

-- Every change of state is a line of the log; `at` is the last sign of life where that is what ended.
CREATE FUNCTION mitra_presence_after() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was text := mitra_presence_state(OLD.is_online, OLD.suspect_since);
    state text := mitra_presence_state(NEW.is_online, NEW.suspect_since);
    switched boolean := NEW.reason IN ('operator', 'deactivated', 'revoked', 'external');
BEGIN
    IF (state, NEW.is_active) IS NOT DISTINCT FROM (was, OLD.is_active) THEN
        RETURN NULL;
    END IF;
    INSERT INTO presence_log (at, mitra_id, state, reason, connection_id, instance_id, actor) VALUES (
        CASE WHEN state = 'online' OR switched THEN clock_timestamp()
             ELSE coalesce(NEW.last_heartbeat_at, clock_timestamp()) END,
        NEW.mitra_id, state, NEW.reason, coalesce(NEW.connection_id, OLD.connection_id),
        coalesce(NEW.instance_id, OLD.instance_id), NEW.actor);
    IF OLD.is_active AND NOT NEW.is_active THEN
        UPDATE auth_sessions SET revoked_at = clock_timestamp()
        WHERE subject_id = NEW.mitra_id AND revoked_at IS NULL;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER mitra_presence_after AFTER UPDATE OF version, is_active, is_online, suspect_since, reason
ON mitra_presence FOR EACH ROW EXECUTE FUNCTION mitra_presence_after();

CREATE FUNCTION mitra_capacity(own integer) RETURNS integer LANGUAGE sql STABLE AS $$
    SELECT coalesce(own, (SELECT (value #>> '{}')::integer FROM app_config WHERE key = 'max_sessions'), 1)
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
CREATE FUNCTION chat_sessions_recount(affected uuid[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM mitra_presence WHERE mitra_id = ANY (affected) ORDER BY mitra_id FOR UPDATE;
    UPDATE mitra_presence p
    SET open_sessions = s.open, last_session_at = greatest(p.last_session_at, s.newest)
    FROM (
        SELECT m.id, count(c.id) FILTER (WHERE c.status IN ('pending_payment', 'active')) AS open,
               max(c.created_at) AS newest
        FROM unnest(affected) AS m(id)
        LEFT JOIN chat_sessions c ON c.mitra_id = m.id AND c.status IN ('pending_payment', 'active')
        GROUP BY m.id
    ) AS s
    WHERE p.mitra_id = s.id
      AND (p.open_sessions <> s.open OR p.last_session_at IS DISTINCT FROM greatest(p.last_session_at, s.newest));
END $$;

CREATE FUNCTION chat_sessions_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        PERFORM chat_sessions_recount(ARRAY(SELECT DISTINCT mitra_id FROM new_rows));
    ELSIF TG_OP = 'DELETE' THEN
        PERFORM chat_sessions_recount(ARRAY(SELECT DISTINCT mitra_id FROM old_rows));
    ELSE
        PERFORM chat_sessions_recount(
            ARRAY(SELECT mitra_id FROM old_rows UNION SELECT mitra_id FROM new_rows));
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chat_sessions_inserted AFTER INSERT ON chat_sessions
REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION chat_sessions_changed();
CREATE TRIGGER chat_sessions_updated AFTER UPDATE ON chat_sessions
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION chat_sessions_changed();
CREATE TRIGGER chat_sessions_deleted AFTER DELETE ON chat_sessions
REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION chat_sessions_changed();
