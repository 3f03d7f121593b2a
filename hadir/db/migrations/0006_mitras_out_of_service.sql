-- Mitras that are out of service, last changed first: those who change are others.
CREATE INDEX IF NOT EXISTS mitra_presence_inactive_changed ON mitra_presence (changed_at DESC, mitra_id DESC)
WHERE NOT is_active;
