-- How far the ledger has come. A row says: at taken_at (the sink's clock), all
-- that lay on the partition at reached_at had been inserted; topic is the role,
-- 'deliveries' or 'attempts'. For deliveries also: every record below done_offset
-- had its settlements on the attempts topic by then, and the oldest record that
-- had not was of done_at. For attempts done_offset is -1.
CREATE TABLE IF NOT EXISTS {{stored "progress"}}{{onCluster}}
(
    topic       LowCardinality(String),
    `partition` Int32,
    reached_at  DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    next_offset Int64 CODEC(Delta(8), ZSTD(1)),
    done_offset Int64 CODEC(Delta(8), ZSTD(1)),
    done_at     DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)),
    taken_at    DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1))
)
ENGINE = {{engine "MergeTree"}}
ORDER BY (topic, `partition`, taken_at)
TTL {{ttl "progress"}}
SETTINGS materialize_ttl_recalculate_only = 1, {{deduplication}};
{{distributed "progress" "cityHash64(topic, `partition`)"}}
