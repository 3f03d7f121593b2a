-- Pairings with their offers, sessions with their chat, payments. Locks are taken in this order: mitra_presence by id,
-- then the pairing, then the session, then offers and payments.

-- Sessions: what feeds and apps compare, chat's last number, paid extensions.
ALTER TABLE chat_sessions
    ADD COLUMN extensions integer NOT NULL DEFAULT 0,
    ADD COLUMN last_seq integer NOT NULL DEFAULT 0,
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN changed_at timestamptz NOT NULL DEFAULT '2000-01-01 00:00Z';
-- Of rows that are there the default above is only noted: nothing is written anew, and to no feed they are new.
ALTER TABLE chat_sessions ALTER COLUMN changed_at SET DEFAULT clock_timestamp(), SET (fillfactor = 80);
CREATE INDEX chat_sessions_changed ON chat_sessions (changed_at);
CREATE INDEX chat_sessions_payment_due ON chat_sessions (payment_due_at) WHERE status = 'pending_payment';
CREATE INDEX chat_sessions_time_over ON chat_sessions (expires_at) WHERE status = 'active';
CREATE INDEX chat_sessions_open_customer ON chat_sessions (customer_id) WHERE status IN ('pending_payment', 'active');
CREATE INDEX chat_sessions_of_customer ON chat_sessions (customer_id, created_at DESC, id DESC);
CREATE INDEX chat_sessions_of_mitra ON chat_sessions (mitra_id, created_at DESC, id DESC);
CREATE INDEX chat_sessions_listed ON chat_sessions (created_at DESC, id DESC);
CREATE INDEX chat_sessions_listed_by_status ON chat_sessions (status, created_at DESC, id DESC);

CREATE TABLE pairings (
    id uuid PRIMARY KEY,
    customer_id uuid NOT NULL REFERENCES customers (id),
    session_id uuid REFERENCES chat_sessions (id) ON DELETE SET NULL,  -- of a reroute from the start, else once it is won
    reroute boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'searching' CHECK (status IN ('searching', 'accepted', 'expired', 'cancelled')),
    note text NOT NULL DEFAULT '',
    idempotency_key text,
    body_hash text,
    mitra_id uuid REFERENCES mitras (id) ON DELETE SET NULL,
    wave integer NOT NULL DEFAULT 0,
    next_wave_at timestamptz DEFAULT clock_timestamp(),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at timestamptz NOT NULL,
    decided_at timestamptz,
    version bigint NOT NULL DEFAULT 1,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX pairings_searching ON pairings (customer_id) WHERE status = 'searching';
CREATE UNIQUE INDEX pairings_key ON pairings (customer_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX pairings_next_wave ON pairings (next_wave_at) WHERE status = 'searching';
CREATE INDEX pairings_expiry ON pairings (expires_at) WHERE status = 'searching';
CREATE INDEX pairings_changed ON pairings (changed_at);
CREATE INDEX pairings_session ON pairings (session_id) WHERE session_id IS NOT NULL;
CREATE INDEX pairings_mitra ON pairings (mitra_id) WHERE mitra_id IS NOT NULL;
CREATE INDEX pairings_customer ON pairings (customer_id, created_at DESC);
CREATE INDEX pairings_listed ON pairings (created_at DESC, id DESC);
CREATE INDEX pairings_listed_by_status ON pairings (status, created_at DESC, id DESC);

CREATE TABLE pairing_offers (
    pairing_id uuid NOT NULL REFERENCES pairings (id) ON DELETE CASCADE,
    mitra_id uuid NOT NULL REFERENCES mitras (id) ON DELETE CASCADE,
    wave integer NOT NULL,
    status text NOT NULL DEFAULT 'open'
        CHECK (status IN ('open', 'accepted', 'declined', 'taken', 'expired', 'cancelled', 'withdrawn')),
    offered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    seen_at timestamptz,
    answered_at timestamptz,
    PRIMARY KEY (pairing_id, mitra_id)
) WITH (fillfactor = 75);
CREATE INDEX pairing_offers_mitra ON pairing_offers (mitra_id, status);

CREATE TABLE chat_messages (
    id uuid PRIMARY KEY,
    session_id uuid NOT NULL REFERENCES chat_sessions (id) ON DELETE CASCADE,
    seq integer NOT NULL,
    sender text NOT NULL CHECK (sender IN ('customer', 'mitra')),
    sender_id uuid NOT NULL,
    client_id text NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (session_id, seq),
    UNIQUE (session_id, sender_id, client_id)
);

-- What the payment provider said, as it said it, and the session that it names; processed_at is null until it has been
-- dealt with: for so long the session does not end by itself.
CREATE TABLE webhook_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source text NOT NULL,
    session_id uuid,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    body jsonb NOT NULL,
    processed_at timestamptz,
    outcome text
);
CREATE INDEX webhook_events_waiting ON webhook_events (id) WHERE processed_at IS NULL;
CREATE INDEX webhook_events_session ON webhook_events (session_id) WHERE processed_at IS NULL;

-- One row an invoice. `external_id`: the session's id, `:<n>` for its n-th extension. Amounts are whole rupiah.
CREATE TABLE payments (
    external_id text NOT NULL,
    invoice_id text NOT NULL,
    session_id uuid REFERENCES chat_sessions (id) ON DELETE SET NULL,
    extension integer NOT NULL DEFAULT 0,
    state text NOT NULL CHECK (state IN ('paid', 'expired', 'refund_due', 'unmatched')),
    amount bigint,
    paid_at timestamptz,
    actor text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (external_id, invoice_id)
);
CREATE INDEX payments_session ON payments (session_id);
CREATE INDEX payments_listed ON payments (changed_at DESC, invoice_id DESC);
CREATE INDEX payments_listed_by_state ON payments (state, changed_at DESC, invoice_id DESC);

-- A session's version moves with all that apps see of it; chat moves only changed_at. Whoever adds to the version has
-- changed something else that apps see. Another program's begin and end get their times, and the end a reason.
CREATE FUNCTION chat_sessions_before() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    compared chat_sessions%ROWTYPE;
BEGIN
    IF NEW.status NOT IN ('pending_payment', 'active') THEN
        NEW.ended_at := coalesce(NEW.ended_at, clock_timestamp());
        NEW.end_reason := coalesce(NEW.end_reason, 'external');
    ELSIF NEW.status = 'active' THEN
        NEW.started_at := coalesce(NEW.started_at, clock_timestamp());
    END IF;
    NEW.changed_at := clock_timestamp();
    IF TG_OP = 'UPDATE' THEN
        compared := NEW;
        compared.last_seq := OLD.last_seq;
        compared.changed_at := OLD.changed_at;
        NEW.version := OLD.version + (compared IS DISTINCT FROM OLD)::int;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER chat_sessions_before BEFORE INSERT OR UPDATE ON chat_sessions
FOR EACH ROW EXECUTE FUNCTION chat_sessions_before();

-- Nobody is searched for a session that is over, or gone.
CREATE FUNCTION chat_sessions_over() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pairings SET status = 'cancelled' WHERE session_id = OLD.id AND status = 'searching';
    RETURN OLD;
END $$;
CREATE TRIGGER chat_sessions_over AFTER UPDATE OF status ON chat_sessions FOR EACH ROW
WHEN (NEW.status NOT IN ('pending_payment', 'active') AND OLD.status IN ('pending_payment', 'active'))
EXECUTE FUNCTION chat_sessions_over();
CREATE TRIGGER chat_sessions_gone BEFORE DELETE ON chat_sessions FOR EACH ROW
WHEN (OLD.status IN ('pending_payment', 'active')) EXECUTE FUNCTION chat_sessions_over();

-- What follows runs as one statement each. A lock that somebody else keeps ends it before its client gives up on it: a
-- statement that nobody waits for any more would keep its connection for as long as that.

-- changed_at moves with everything, its offers included (whoever changes one touches the pairing); the version only
-- with what customers see.
CREATE FUNCTION pairings_before() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status <> 'searching' THEN
        NEW.next_wave_at := NULL;
        NEW.decided_at := coalesce(NEW.decided_at, clock_timestamp());
    END IF;
    NEW.changed_at := clock_timestamp();
    IF (NEW.status, NEW.mitra_id, NEW.session_id, NEW.expires_at, NEW.note) IS DISTINCT FROM
       (OLD.status, OLD.mitra_id, OLD.session_id, OLD.expires_at, OLD.note) THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER pairings_before BEFORE UPDATE ON pairings FOR EACH ROW EXECUTE FUNCTION pairings_before();

-- A decided pairing has no open offers, whoever decided it.
CREATE FUNCTION pairings_decided() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE pairing_offers
    SET status = CASE NEW.status WHEN 'accepted' THEN 'taken' WHEN 'expired' THEN 'expired' ELSE 'cancelled' END
    WHERE pairing_id = NEW.id AND status = 'open';
    RETURN NULL;
END $$;
CREATE TRIGGER pairings_decided AFTER UPDATE OF status ON pairings FOR EACH ROW
WHEN (OLD.status = 'searching' AND NEW.status <> 'searching') EXECUTE FUNCTION pairings_decided();

-- As before; and who is taken out of service has no open offers, and customers see whether their mitra is reachable.
CREATE OR REPLACE FUNCTION mitra_presence_changed() RETURNS trigger LANGUAGE plpgsql AS $$
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
        -- Behind the locks of their pairings, as everybody who closes offers, and without waiting: the row of presence is
        -- locked with those of many others. What is left out the next wave withdraws; nobody wins by it.
        UPDATE pairing_offers SET status = 'withdrawn'
        WHERE mitra_id = NEW.mitra_id AND status = 'open' AND pairing_id = ANY (ARRAY(
            SELECT id FROM pairings WHERE id IN (
                SELECT pairing_id FROM pairing_offers WHERE mitra_id = NEW.mitra_id AND status = 'open')
            ORDER BY id FOR UPDATE SKIP LOCKED));
    END IF;
    IF NEW.open_sessions > 0 AND NEW.is_online IS DISTINCT FROM OLD.is_online THEN
        UPDATE chat_sessions SET version = version + 1
        WHERE id = ANY (ARRAY(
            SELECT id FROM chat_sessions WHERE mitra_id = NEW.mitra_id AND status IN ('pending_payment', 'active')
            ORDER BY id FOR NO KEY UPDATE SKIP LOCKED));
    END IF;
    RETURN NULL;
END $$;

-- A new pairing, or what is there in its way. `outcome`: created, same (this key had it already), reused (the key was
-- another body's), searching (another pairing searches), unknown (no such customer).
CREATE FUNCTION pairing_create(
    p_id uuid, p_customer uuid, p_key text, p_hash text, p_note text, p_seconds float8,
    OUT outcome text, OUT pairing_id uuid
) LANGUAGE plpgsql SET lock_timeout = '4s' AS $$
DECLARE
    found_hash text;
BEGIN
    IF NOT EXISTS (SELECT FROM customers WHERE id = p_customer) THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    UPDATE pairings SET idempotency_key = NULL
    WHERE customer_id = p_customer AND idempotency_key = p_key AND created_at < clock_timestamp() - interval '24 hours';
    LOOP  -- what was in the way may be gone when it is looked at
        INSERT INTO pairings (id, customer_id, idempotency_key, body_hash, note, expires_at)
        VALUES (p_id, p_customer, p_key, p_hash, p_note, clock_timestamp() + make_interval(secs => p_seconds))
        ON CONFLICT DO NOTHING RETURNING 'created', id INTO outcome, pairing_id;
        EXIT WHEN pairing_id IS NOT NULL;
        SELECT id, body_hash INTO pairing_id, found_hash FROM pairings
        WHERE customer_id = p_customer AND idempotency_key = p_key;
        IF FOUND THEN
            outcome := CASE WHEN found_hash = p_hash THEN 'same' ELSE 'reused' END;
            EXIT;
        END IF;
        SELECT 'searching', id INTO outcome, pairing_id FROM pairings
        WHERE customer_id = p_customer AND status = 'searching';
        EXIT WHEN FOUND;
    END LOOP;
END $$;

-- The next wave of pairings: offers to the first of the candidates (in their order) who may have one. A pairing whose
-- wave is `p_waves` already is topped up. Waves are made one after the other, so that limits hold exactly; a pairing
-- that somebody decides at this moment is left out.
CREATE FUNCTION pairing_waves(
    p_pairings uuid[], p_waves integer[], p_candidates uuid[],
    p_size integer, p_seconds float8, p_max_offers integer, p_max_open integer
) RETURNS TABLE (pairing_id uuid, mitras uuid[], missing integer, first_offer_s float8) LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    due record;
    wanted integer;
BEGIN
    PERFORM pg_advisory_xact_lock(7230015448411);
    FOR due IN
        SELECT p.id, p.customer_id, p.session_id, p.created_at, i.wave FROM unnest(p_pairings, p_waves) AS i(id, wave)
        JOIN pairings p ON p.id = i.id
        WHERE p.status = 'searching'
          AND (p.wave = i.wave OR (p.wave = i.wave - 1 AND p.next_wave_at <= clock_timestamp()))
        ORDER BY p.id FOR UPDATE OF p SKIP LOCKED
    LOOP
        -- Who was taken out of service while it was offered this has it no more.
        UPDATE pairing_offers o SET status = 'withdrawn' FROM mitra_presence m
        WHERE o.pairing_id = due.id AND o.status = 'open' AND m.mitra_id = o.mitra_id AND NOT m.is_active;
        SELECT least(p_size - count(*) FILTER (WHERE o.wave = due.wave), p_max_offers - count(*)) INTO wanted
        FROM pairing_offers o WHERE o.pairing_id = due.id;
        WITH offered AS (
            INSERT INTO pairing_offers (pairing_id, mitra_id, wave)
            SELECT due.id, m.mitra_id, due.wave
            FROM unnest(p_candidates) WITH ORDINALITY AS c(mitra_id, position)
            JOIN mitra_presence m ON m.mitra_id = c.mitra_id
            JOIN mitras ON mitras.id = c.mitra_id
            WHERE m.is_active AND m.is_online AND m.suspect_since IS NULL AND m.open_sessions < m.max_sessions
              AND c.mitra_id <> due.customer_id
              AND NOT EXISTS (SELECT FROM pairing_offers o WHERE o.pairing_id = due.id AND o.mitra_id = c.mitra_id)
              AND p_max_open > (SELECT count(*) FROM pairing_offers o WHERE o.mitra_id = c.mitra_id AND o.status = 'open')
              AND (due.session_id IS NULL OR NOT EXISTS (
                  SELECT FROM pairings had
                  WHERE had.session_id = due.session_id AND had.status = 'accepted' AND had.mitra_id = c.mitra_id
                  UNION ALL SELECT FROM chat_sessions s WHERE s.id = due.session_id AND s.mitra_id = c.mitra_id))
            ORDER BY c.position LIMIT greatest(wanted, 0)
            FOR KEY SHARE OF mitras SKIP LOCKED  -- as the foreign key will: nobody's lock on a mitra stops the others
            RETURNING pairing_offers.mitra_id
        )
        SELECT coalesce(array_agg(mitra_id), '{}') INTO mitras FROM offered;
        pairing_id := due.id;
        missing := greatest(wanted, 0) - cardinality(mitras);
        first_offer_s := CASE WHEN due.wave = 1 THEN extract(epoch FROM clock_timestamp() - due.created_at) END;
        UPDATE pairings p
        SET wave = due.wave,
            next_wave_at = CASE WHEN p.wave < due.wave
                THEN clock_timestamp() + make_interval(secs => p_seconds) ELSE p.next_wave_at END
        WHERE p.id = due.id;
        RETURN NEXT;
    END LOOP;
END $$;

-- R7. Who accepts, wins, or does not, in one statement: the mitra is locked, then the pairing. `result`: won, taken,
-- expired, busy, withdrawn. `moved`: mitras whose capacity this changed; `decided`: whether the pairing was decided by it.
CREATE FUNCTION pairing_accept(
    p_pairing uuid, p_mitra uuid, p_payment_s float8, p_late_s float8,
    OUT result text, OUT session_id uuid, OUT customer_id uuid, OUT moved uuid[], OUT decided boolean,
    OUT waited_s float8
) LANGUAGE plpgsql SET lock_timeout = '4s' AS $$
DECLARE
    p pairings%ROWTYPE;
    m mitra_presence%ROWTYPE;
    s chat_sessions%ROWTYPE;
    offer text;
BEGIN
    moved := '{}';
    decided := false;
    SELECT * INTO p FROM pairings WHERE id = p_pairing;
    IF p.status = 'searching' THEN  -- what is decided stays so: nobody has to wait to hear it
        PERFORM FROM mitras WHERE id = p_mitra FOR KEY SHARE;  -- as the session's foreign key will
        PERFORM FROM mitra_presence WHERE mitra_id IN (
            p_mitra, (SELECT c.mitra_id FROM chat_sessions c WHERE c.id = p.session_id))
        ORDER BY mitra_id FOR UPDATE;
        SELECT * INTO m FROM mitra_presence WHERE mitra_id = p_mitra;
        SELECT * INTO p FROM pairings WHERE id = p_pairing FOR UPDATE;
    END IF;
    SELECT o.status INTO offer FROM pairing_offers o WHERE o.pairing_id = p_pairing AND o.mitra_id = p_mitra;
    customer_id := p.customer_id;
    IF p.status = 'accepted' AND p.mitra_id = p_mitra THEN
        result := 'won';
        session_id := p.session_id;
    ELSIF offer IS NULL OR offer IN ('declined', 'withdrawn', 'cancelled') OR p.status = 'cancelled' THEN
        result := 'withdrawn';
    ELSIF p.status = 'accepted' THEN
        result := 'taken';
    ELSIF p.status = 'expired' OR clock_timestamp() > p.expires_at + make_interval(secs => p_late_s) THEN
        result := 'expired';
        UPDATE pairings SET status = 'expired' WHERE id = p.id AND status = 'searching';
        decided := FOUND;
    ELSIF NOT m.is_active THEN  -- offered while it was taken out of service
        UPDATE pairing_offers o SET status = 'withdrawn' WHERE o.pairing_id = p.id AND o.mitra_id = p_mitra;
        result := 'withdrawn';
    ELSIF m.open_sessions >= m.max_sessions THEN
        result := 'busy';
    ELSE
        moved := ARRAY[p_mitra];
        IF p.reroute THEN
            SELECT * INTO s FROM chat_sessions c WHERE c.id = p.session_id FOR UPDATE;
            IF s.id IS NULL OR s.status NOT IN ('pending_payment', 'active') THEN
                UPDATE pairings SET status = 'cancelled' WHERE id = p.id;
                result := 'withdrawn';
                moved := '{}';
                decided := true;
                RETURN;
            END IF;
            UPDATE chat_sessions SET mitra_id = p_mitra WHERE id = s.id;
            session_id := s.id;
            moved := moved || s.mitra_id;
        ELSE
            session_id := gen_random_uuid();
            INSERT INTO chat_sessions (id, customer_id, mitra_id, status, payment_due_at) VALUES (
                session_id, p.customer_id, p_mitra, 'pending_payment',
                clock_timestamp() + make_interval(secs => p_payment_s));
        END IF;
        UPDATE pairing_offers o SET status = 'accepted', answered_at = clock_timestamp()
        WHERE o.pairing_id = p.id AND o.mitra_id = p_mitra;
        UPDATE pairings SET status = 'accepted', mitra_id = p_mitra, session_id = pairing_accept.session_id WHERE id = p.id;
        UPDATE mitra_presence SET suspect_since = clock_timestamp(), version = version + 1
        WHERE mitra_id = p_mitra AND suspect_since IS NOT NULL;  -- a sign of life: its grace begins anew
        result := 'won';
        decided := true;
        waited_s := extract(epoch FROM clock_timestamp() - p.created_at);
    END IF;
END $$;

-- A mitra does not want it. `result`: declined, or what was decided before: won, taken, expired, withdrawn.
CREATE FUNCTION pairing_decline(p_pairing uuid, p_mitra uuid, OUT result text) LANGUAGE plpgsql SET lock_timeout = '4s' AS $$
DECLARE
    p pairings%ROWTYPE;
    offer text;
BEGIN
    SELECT * INTO p FROM pairings WHERE id = p_pairing FOR UPDATE;
    SELECT o.status INTO offer FROM pairing_offers o WHERE o.pairing_id = p_pairing AND o.mitra_id = p_mitra FOR UPDATE;
    IF offer = 'open' THEN
        UPDATE pairing_offers o SET status = 'declined', answered_at = clock_timestamp()
        WHERE o.pairing_id = p_pairing AND o.mitra_id = p_mitra;
        UPDATE pairings SET wave = wave WHERE id = p_pairing;  -- touched: feeds find it
        offer := 'declined';
    END IF;
    result := CASE offer WHEN 'accepted' THEN 'won' WHEN 'declined' THEN 'declined' WHEN 'taken' THEN 'taken'
                         WHEN 'expired' THEN 'expired' ELSE 'withdrawn' END;
END $$;

-- Its customer does not want it any more. Answers whether it was searching until now.
CREATE FUNCTION pairing_cancel(p_pairing uuid, p_customer uuid) RETURNS boolean LANGUAGE plpgsql SET lock_timeout = '4s' AS $$
BEGIN
    UPDATE pairings SET status = 'cancelled' WHERE id = p_pairing AND customer_id = p_customer AND status = 'searching';
    RETURN FOUND;
END $$;

-- Ends searches whose shown deadline is so many seconds past, but for those that somebody is deciding.
CREATE FUNCTION pairings_expire(p_late_s float8, p_limit integer) RETURNS TABLE (id uuid, customer_id uuid, late_s float8)
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
BEGIN
    RETURN QUERY
    UPDATE pairings p SET status = 'expired'
    WHERE p.id IN (
        SELECT due.id FROM pairings due
        WHERE due.status = 'searching' AND due.expires_at <= clock_timestamp() - make_interval(secs => p_late_s)
        ORDER BY due.expires_at LIMIT p_limit FOR UPDATE SKIP LOCKED)
    RETURNING p.id, p.customer_id, extract(epoch FROM p.decided_at - p.expires_at)::float8 - p_late_s;
END $$;

-- A new search for a session that goes on. `outcome`: created, same (it is being searched for already), searching
-- (another pairing of its customer searches), unknown, or else the session's state, in which that is not possible.
CREATE FUNCTION pairing_reroute(
    p_id uuid, p_session uuid, p_customer uuid, p_from text[], p_seconds float8, OUT outcome text, OUT pairing_id uuid
) LANGUAGE plpgsql SET lock_timeout = '4s' AS $$
DECLARE
    s chat_sessions%ROWTYPE;
BEGIN
    SELECT * INTO s FROM chat_sessions WHERE id = p_session AND customer_id = coalesce(p_customer, customer_id) FOR SHARE;
    IF s.id IS NULL OR s.status <> ALL (p_from) THEN
        outcome := coalesce(s.status, 'unknown');
        RETURN;
    END IF;
    LOOP
        INSERT INTO pairings (id, customer_id, session_id, reroute, expires_at)
        VALUES (p_id, s.customer_id, s.id, true, clock_timestamp() + make_interval(secs => p_seconds))
        ON CONFLICT DO NOTHING RETURNING 'created', id INTO outcome, pairing_id;
        EXIT WHEN pairing_id IS NOT NULL;
        SELECT CASE WHEN session_id = s.id THEN 'same' ELSE 'searching' END, id INTO outcome, pairing_id
        FROM pairings WHERE customer_id = s.customer_id AND status = 'searching';
        EXIT WHEN FOUND;
    END LOOP;
END $$;

-- The session, locked behind the mitra who has it.
CREATE FUNCTION session_lock(p_id uuid) RETURNS chat_sessions LANGUAGE plpgsql AS $$
DECLARE
    has uuid;
    s chat_sessions%ROWTYPE;
BEGIN
    LOOP
        SELECT mitra_id INTO has FROM chat_sessions WHERE id = p_id;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
        PERFORM FROM mitra_presence WHERE mitra_id = has FOR UPDATE;
        SELECT * INTO s FROM chat_sessions WHERE id = p_id AND mitra_id = has FOR UPDATE;
        IF FOUND THEN
            RETURN s;
        END IF;
    END LOOP;
END $$;

-- One event of a session: from one of `p_from` to the state beside it in `p_to`. `p_party` may be its customer or its
-- mitra (NULL: anybody). `outcome`: done, refused (it is in another state), unknown.
CREATE FUNCTION session_change(
    p_id uuid, p_party uuid, p_from text[], p_to text[], p_reason text, p_seconds float8, p_extension integer,
    OUT outcome text, OUT state text, OUT mitra_id uuid, OUT customer_id uuid
) LANGUAGE plpgsql SET lock_timeout = '4s' AS $$
DECLARE
    s chat_sessions%ROWTYPE := session_lock(p_id);
    next text;
    moment timestamptz := clock_timestamp();
BEGIN
    IF s.id IS NULL OR p_party NOT IN (s.customer_id, s.mitra_id) THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    mitra_id := s.mitra_id;
    customer_id := s.customer_id;
    next := p_to[array_position(p_from, s.status)];
    state := coalesce(next, s.status);
    IF next IS NULL THEN
        outcome := 'refused';
        RETURN;
    END IF;
    outcome := 'done';
    UPDATE chat_sessions c SET
        status = next,
        started_at = CASE WHEN next = 'active' THEN coalesce(c.started_at, moment) ELSE c.started_at END,
        extensions = greatest(c.extensions, p_extension),
        expires_at = CASE WHEN next = 'active'
            THEN greatest(c.expires_at, moment) + make_interval(secs => p_seconds) ELSE c.expires_at END,
        ended_at = CASE WHEN next <> 'active' THEN moment END,
        end_reason = CASE WHEN next <> 'active' THEN p_reason END
    WHERE c.id = s.id;
END $$;

-- Ends what time ended: sessions that were not paid for, and those that are over; but for those of which an event waits
-- to be dealt with (a payment that came in time counts), or that somebody else holds: nobody waits for them.
CREATE FUNCTION sessions_due(p_limit integer) RETURNS TABLE (id uuid, customer_id uuid, mitra_id uuid, status text, late_s float8)
LANGUAGE plpgsql SET lock_timeout = '500ms' AS $$
DECLARE
    ids uuid[];
    mitras uuid[];
    searches uuid[];
    due_before timestamptz := clock_timestamp();
BEGIN
    SELECT array_agg(d.id), array_agg(d.mitra_id) INTO ids, mitras FROM (
        (SELECT c.id, c.mitra_id FROM chat_sessions c
         WHERE c.status = 'pending_payment' AND c.payment_due_at <= due_before ORDER BY c.payment_due_at LIMIT p_limit)
        UNION ALL
        (SELECT c.id, c.mitra_id FROM chat_sessions c
         WHERE c.status = 'active' AND c.expires_at <= due_before ORDER BY c.expires_at LIMIT p_limit)) AS d;
    IF ids IS NULL THEN
        RETURN;
    END IF;
    mitras := ARRAY(
        SELECT p.mitra_id FROM mitra_presence p WHERE p.mitra_id = ANY (mitras) ORDER BY p.mitra_id FOR UPDATE SKIP LOCKED);
    searches := ARRAY(
        SELECT g.id FROM pairings g WHERE g.session_id = ANY (ids) AND g.status = 'searching'
        ORDER BY g.id FOR UPDATE SKIP LOCKED);
    ids := ARRAY(
        SELECT c.id FROM chat_sessions c WHERE c.id = ANY (ids) AND c.mitra_id = ANY (mitras) AND NOT EXISTS (
            SELECT FROM pairings g WHERE g.session_id = c.id AND g.status = 'searching' AND g.id <> ALL (searches))
        ORDER BY c.id FOR UPDATE SKIP LOCKED);
    RETURN QUERY
    UPDATE chat_sessions c SET
        status = CASE c.status WHEN 'pending_payment' THEN 'expired' ELSE 'ended' END,
        ended_at = clock_timestamp(),
        end_reason = CASE c.status WHEN 'pending_payment' THEN 'payment_timeout' ELSE 'time' END
    WHERE c.id = ANY (ids) AND c.mitra_id = ANY (mitras) AND (
        (c.status = 'pending_payment' AND c.payment_due_at <= due_before)
        OR (c.status = 'active' AND c.expires_at <= due_before))
      AND NOT EXISTS (SELECT FROM webhook_events w WHERE w.session_id = c.id AND w.processed_at IS NULL)
    RETURNING c.id, c.customer_id, c.mitra_id, c.status, extract(epoch FROM clock_timestamp() - CASE c.status
        WHEN 'expired' THEN c.payment_due_at ELSE c.expires_at END)::float8;
END $$;

-- A message of one of the two sides, numbered under the session's lock: numbers are in the order of commits, without
-- gaps. `outcome`: stored, same (this client_id was stored before), refused (not active), unknown.
CREATE FUNCTION chat_send(
    p_id uuid, p_session uuid, p_sender uuid, p_client_id text, p_body text,
    OUT outcome text, OUT state text, OUT message_id uuid, OUT mitra_id uuid, OUT customer_id uuid
) LANGUAGE plpgsql SET lock_timeout = '4s' AS $$
DECLARE
    s chat_sessions%ROWTYPE;
BEGIN
    SELECT * INTO s FROM chat_sessions c WHERE c.id = p_session FOR UPDATE;
    IF s.id IS NULL OR p_sender NOT IN (s.customer_id, s.mitra_id) THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    mitra_id := s.mitra_id;
    customer_id := s.customer_id;
    state := s.status;
    SELECT c.id INTO message_id FROM chat_messages c
    WHERE c.session_id = p_session AND c.sender_id = p_sender AND c.client_id = p_client_id;
    IF FOUND THEN
        outcome := 'same';
    ELSIF s.status <> 'active' THEN
        outcome := 'refused';
    ELSE
        outcome := 'stored';
        message_id := p_id;
        UPDATE chat_sessions c SET last_seq = c.last_seq + 1 WHERE c.id = p_session;
        INSERT INTO chat_messages (id, session_id, seq, sender, sender_id, client_id, body) VALUES (
            p_id, p_session, s.last_seq + 1, CASE WHEN p_sender = s.mitra_id THEN 'mitra' ELSE 'customer' END,
            p_sender, p_client_id, p_body);
    END IF;
END $$;

-- What became of an invoice. PAID counts once an invoice; a session or extension that is paid for already, or can no
-- longer be, makes it `refund_due`; EXPIRED never overrides PAID. `changed`: whether the session moved.
-- $ p_from, p_to: what being paid does to a session, as in session_change.
CREATE FUNCTION payment_record(
    p_external text, p_invoice text, p_session uuid, p_extension integer, p_paid boolean, p_amount bigint,
    p_paid_at timestamptz, p_actor text, p_from text[], p_to text[], p_seconds float8,
    OUT outcome text, OUT session_state text, OUT changed boolean, OUT mitra_id uuid, OUT customer_id uuid
) LANGUAGE plpgsql SET lock_timeout = '200ms' AS $$
DECLARE
    s chat_sessions%ROWTYPE := session_lock(p_session);
    known text;
    moved record;
BEGIN
    changed := false;
    mitra_id := s.mitra_id;
    customer_id := s.customer_id;
    session_state := s.status;
    -- Invoices that name no session have no lock of a session to meet behind.
    PERFORM pg_advisory_xact_lock(hashtextextended(p_external, 0));
    SELECT state INTO known FROM payments WHERE external_id = p_external AND invoice_id = p_invoice;
    IF known IN ('paid', 'refund_due', 'unmatched') OR (known = 'expired' AND NOT p_paid) THEN
        outcome := known;
        RETURN;
    END IF;
    outcome := CASE WHEN p_paid AND s.id IS NULL THEN 'unmatched' WHEN p_paid THEN 'refund_due' ELSE 'expired' END;
    IF outcome = 'refund_due' AND s.extensions = p_extension - (p_extension > 0)::int
       AND NOT EXISTS (SELECT FROM payments WHERE external_id = p_external AND state = 'paid') THEN
        SELECT * INTO moved FROM session_change(p_session, NULL, p_from, p_to, NULL, p_seconds, p_extension);
        changed := moved.outcome = 'done';
        session_state := moved.state;
        outcome := CASE WHEN changed THEN 'paid' ELSE 'refund_due' END;
    END IF;
    INSERT INTO payments AS known_as
        (external_id, invoice_id, session_id, extension, state, amount, paid_at, actor)
    VALUES (p_external, p_invoice, s.id, p_extension, outcome, p_amount, p_paid_at, p_actor)
    ON CONFLICT (external_id, invoice_id) DO UPDATE
    SET state = excluded.state, amount = coalesce(excluded.amount, known_as.amount), paid_at = excluded.paid_at,
        actor = excluded.actor, changed_at = clock_timestamp();
END $$;
