-- Each body once, under the first 16 bytes of its SHA-256 in hex. By day, so that
-- a day's bodies are dropped as a whole when their time is up; a body that comes
-- again on another day is there again.
--
-- A look-up by body_id reads one granule of each part: small granules keep that
-- cheap, as bodies are large.
CREATE TABLE IF NOT EXISTS {{stored "messages"}}{{onCluster}}
(
    body_id      String,
    begun_at     DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    content_type LowCardinality(String),
    body         String CODEC(ZSTD(3))
)
ENGINE = {{engine "ReplacingMergeTree" "begun_at"}}
PARTITION BY toDate(begun_at)
ORDER BY body_id
TTL {{ttl "messages"}}
SETTINGS index_granularity = 256, ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1, {{deduplication}};
{{distributed "messages" "cityHash64(body_id)"}}
