-- What the control centre reads: mitras by name, pools and sessions by state; and what it did.

-- Byte order, so that the beginning of a name is a range of the index whatever the database's collation.
CREATE INDEX mitras_name ON mitras (lower(display_name) COLLATE "C", id);

-- Whom to offer first, where Postgres has to say so: the order of mitras:queue.
CREATE INDEX mitra_presence_queue ON mitra_presence (open_sessions, last_session_at NULLS FIRST, mitra_id)
WHERE is_online AND suspect_since IS NULL AND open_sessions < max_sessions;
CREATE INDEX mitra_presence_busy ON mitra_presence (mitra_id)
WHERE is_online AND suspect_since IS NULL AND open_sessions >= max_sessions;

CREATE INDEX chat_sessions_running ON chat_sessions (status) WHERE status IN ('pending_payment', 'active');
CREATE INDEX chat_sessions_over ON chat_sessions (ended_at, status) WHERE ended_at IS NOT NULL;

-- What operators did. `subject`: the key, mitra, login or session that it was done to.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    action text NOT NULL,
    subject text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_log_subject ON audit_log (action, subject, id DESC);
