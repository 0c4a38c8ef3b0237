-- One row for each settlement: what came of one handling of a delivery record.
-- started_at is the record's Kafka timestamp where nothing was started; the
-- time 1970-01-01 means "none".
--
-- The partition goes by begun_at, as that of deliveries: what belongs together
-- is dropped together. started_at has an index of its own, as it doesn't follow
-- from the partition.
CREATE TABLE IF NOT EXISTS {{stored "attempts"}}{{onCluster}}
(
    kind             LowCardinality(String),
    attempt_id       UUID,
    delivery_id      String,
    run              Int64,
    n                UInt32,
    step             UInt32,
    deferrals        UInt32,
    origin           LowCardinality(String),
    tenant           LowCardinality(String),
    endpoint_id      String,
    event_id         String,
    event_source     LowCardinality(String),
    event_type       LowCardinality(String),
    contract         LowCardinality(String),
    body_id          String,
    source_topic     LowCardinality(String),
    source_partition Int32,
    source_offset    Int64 CODEC(Delta(8), ZSTD(1)),
    `partition`      Int32,
    `offset`         Int64 CODEC(Delta(8), ZSTD(1)),
    started_at       DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    duration_us      UInt32,
    dns_us           UInt32,
    connect_us       UInt32,
    tls_us           UInt32,
    first_byte_us    UInt32,
    status           UInt16,
    outcome          LowCardinality(String),
    reason           LowCardinality(String),
    detail           String,
    response         String,
    next_at          DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    begun_at         DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    matched_at       DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    traceparent      String,
    trace_id         String,

    -- By the server's clock; only to follow what is new.
    inserted_at      DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),

    -- What a settlement says of its delivery: delivered > dead > discarded > pending.
    verdict          UInt8 ALIAS multiIf(outcome = 'delivered', 3, outcome = 'dead' OR kind = 'dead', 2, kind = 'discard', 1, 0),
    -- The order of a delivery's settlements, for argMax: the verdict, then how often
    -- the delivery had been sent or put back (which no clock can get wrong), then
    -- time, then the ID, so that no two settlements are equal.
    moment           UInt128 ALIAS bitShiftLeft(toUInt128(
                         bitShiftLeft(toUInt64(verdict), 62)
                         + bitShiftLeft(least(toUInt64(n) + toUInt64(deferrals), 1048575), 42)
                         + toUInt64(toUnixTimestamp64Milli(started_at))), 64) + cityHash64(attempt_id),
    ended_at         DateTime64(3, 'UTC') ALIAS started_at + toIntervalMillisecond(intDiv(duration_us, 1000)),

    INDEX delivery_id_bloom  delivery_id TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX event_id_bloom     event_id    TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX tenant_bloom       tenant      TYPE bloom_filter(0.005) GRANULARITY 1,
    INDEX started_at_minmax  started_at  TYPE minmax GRANULARITY 1,
    INDEX inserted_at_minmax inserted_at TYPE minmax GRANULARITY 1
)
ENGINE = {{engine "ReplacingMergeTree"}}
PARTITION BY toDate(begun_at)
ORDER BY (endpoint_id, started_at, attempt_id)
TTL {{ttl "attempts"}}
SETTINGS ttl_only_drop_parts = 1, materialize_ttl_recalculate_only = 1, {{deduplication}};
{{distributed "attempts" "cityHash64(delivery_id)"}}
