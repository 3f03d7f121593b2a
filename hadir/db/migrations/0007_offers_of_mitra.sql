-- What a mitra was offered, newest first: it is offered more every day, so that its timeline could not sort all of it.
CREATE INDEX IF NOT EXISTS pairing_offers_of_mitra ON pairing_offers (mitra_id, offered_at DESC);
