-- Marks offers as delivered or seen, once; without waiting for anybody's lock. Answers those that it could lock.
-- $1 uuid[] pairings, $2 uuid[] mitras, $3 bool[] seen (else delivered)
WITH marks AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bool[]) AS i(pairing_id, mitra_id, seen)
), locked AS (
    SELECT o.pairing_id, o.mitra_id FROM pairing_offers o
    JOIN (SELECT DISTINCT pairing_id, mitra_id FROM marks) AS m ON m.pairing_id = o.pairing_id AND m.mitra_id = o.mitra_id
    FOR UPDATE OF o SKIP LOCKED
), marked AS (
    UPDATE pairing_offers o
    SET delivered_at = coalesce(o.delivered_at, clock_timestamp()),
        seen_at = CASE WHEN i.seen THEN coalesce(o.seen_at, clock_timestamp()) ELSE o.seen_at END
    FROM (SELECT l.pairing_id, l.mitra_id, bool_or(m.seen) AS seen FROM locked l
          JOIN marks m ON m.pairing_id = l.pairing_id AND m.mitra_id = l.mitra_id
          GROUP BY l.pairing_id, l.mitra_id) AS i
    WHERE o.pairing_id = i.pairing_id AND o.mitra_id = i.mitra_id
      AND (o.delivered_at IS NULL OR (i.seen AND o.seen_at IS NULL))
)
SELECT l.pairing_id, l.mitra_id FROM locked l
