-- What is kept, from an index: what operators did, by whom and to what; what a mitra was offered, newest first.

-- In the order of the log, which is that of `id`.
CREATE INDEX audit_log_of_actor ON audit_log (actor, id DESC);
CREATE INDEX audit_log_of_action ON audit_log (action, id DESC);
CREATE INDEX audit_log_of_subject ON audit_log (subject, id DESC);
-- Logins that were revoked, by whose they were.
CREATE INDEX audit_log_of_login ON audit_log ((detail ->> 'subject_id'), id DESC) WHERE action = 'revoke';

CREATE INDEX pairing_offers_of_mitra ON pairing_offers (mitra_id, offered_at DESC);
