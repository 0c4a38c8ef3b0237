-- One row for each delivery and run: the record that matching (or a resend, a
-- retry, a replay) put on the deliveries topic.
--
-- Sorted by endpoint and time, as attempts is: lists and counts of an endpoint
-- read a stretch, the newest are read backwards. delivery_id alone, event_id
-- alone and tenant alone find their granules by bloom filter.
--
-- An event that was matched twice lies on the log twice. The row with the lowest
-- offset is kept, so that a merge changes no answer: precedence is ~offset, as
-- the highest version survives.
CREATE TABLE IF NOT EXISTS {{stored "deliveries"}}{{onCluster}}
(
    tenant           LowCardinality(String),
    endpoint_id      String,
    delivery_id      String,
    run              Int64,
    event_id         String,
    event_source     LowCardinality(String),
    event_type       LowCardinality(String),
    origin           LowCardinality(String),
    contract         LowCardinality(String),
    content_type     LowCardinality(String),
    body_id          String,
    body_size        UInt32,
    begun_at         DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    matched_at       DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    source_topic     LowCardinality(String),
    source_partition Int32,
    source_offset    Int64 CODEC(Delta(8), ZSTD(1)),
    `partition`      Int32,
    `offset`         Int64 CODEC(Delta(8), ZSTD(1)),
    traceparent      String,

    -- By the server's clock; only to follow what is new.
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    precedence       UInt64 MATERIALIZED bitNot(toUInt64(`offset`)) CODEC(Delta(8), ZSTD(1)),

    INDEX delivery_id_bloom  delivery_id TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX event_id_bloom     event_id    TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX tenant_bloom       tenant      TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX inserted_at_minmax inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree" "precedence"}}
PARTITION BY toDate(begun_at)
ORDER BY (endpoint_id, begun_at, delivery_id, run)
TTL {{ttl "deliveries"}}
SETTINGS ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1, {{deduplication}};
{{distributed "deliveries" "cityHash64(delivery_id)"}}
