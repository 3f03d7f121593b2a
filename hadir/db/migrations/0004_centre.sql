-- What the control centre shows live: a series of counts, how instances fare, and what happened last.

-- What happened last is read from where it was written. On a large table whoever upgrades may have made the index before,
-- without blocking anybody.
CREATE INDEX IF NOT EXISTS audit_log_at ON audit_log (at DESC);
CREATE INDEX IF NOT EXISTS pairings_decided_at ON pairings (decided_at DESC) WHERE decided_at IS NOT NULL;

-- The fleet's counts, one row for each slot of ten seconds of this server's clock; a slot without a row: nobody counted.
CREATE TABLE centre_series (
    at timestamptz PRIMARY KEY,
    online integer,
    suspect integer,
    available integer,
    busy integer,
    deactivated integer,
    sockets integer,
    pending_payment integer,
    active integer,
    waiting integer,
    accept_p50_s double precision,
    beats_per_s double precision
);

CREATE TABLE instance_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    instance_id text NOT NULL,
    name text NOT NULL,
    what text NOT NULL CHECK (what IN ('started', 'stopped', 'died'))
);
CREATE INDEX instance_log_at ON instance_log (at DESC);

-- Whoever stops beats until it goes; whoever is buried has been silent for longer than three beats.
CREATE FUNCTION instances_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO instance_log (instance_id, name, what) VALUES (NEW.id, NEW.name, 'started');
    ELSE
        INSERT INTO instance_log (instance_id, name, what) VALUES (OLD.id, OLD.name,
            CASE WHEN abs(extract(epoch FROM clock_timestamp() - OLD.beat_at)) > 10 THEN 'died' ELSE 'stopped' END);
    END IF;
    RETURN NULL;
END $$;

-- Last, since no instance can beat from here to the end. Null where one of an earlier version does not say.
ALTER TABLE instances
    ADD COLUMN beats_per_s double precision,
    ADD COLUMN loop_lag_s double precision;

CREATE TRIGGER instances_changed AFTER INSERT OR DELETE ON instances
FOR EACH ROW EXECUTE FUNCTION instances_changed();
