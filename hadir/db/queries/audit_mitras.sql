-- What operators did to mitras, in the transaction that does it.
-- $1 text[] who, $2 text[] what, $3 text[] the mitras, $4 text[] the state that each was in
INSERT INTO audit_log (actor, action, subject, detail)
SELECT i.actor, i.action, i.subject, jsonb_build_object('was', i.state)
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS i(actor, action, subject, state)
