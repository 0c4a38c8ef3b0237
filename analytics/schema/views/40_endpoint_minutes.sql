-- What an endpoint's POSTs came to, by the minute they started in. It is computed
-- from attempts under FINAL: a day of an endpoint is one stretch there, and sums
-- and percentiles of stored partial results would double when rows come twice.
--
-- Attempts that we cut short ourselves (shutdown, handover) are neither delivered
-- nor failed, and their time says nothing of the receiver.
CREATE OR REPLACE VIEW {{name "endpoint_minutes"}}{{onCluster}} AS
SELECT
    tenant, endpoint_id,
    toStartOfMinute(started_at) AS minute,
    count() AS attempts,
    countIf(outcome = 'delivered') AS delivered,
    countIf(outcome IN ('retry', 'dead')) AS failed,
    countIf(outcome = 'cut') AS cut,
    sumMapIf(map(reason, toUInt64(1)), outcome IN ('retry', 'dead')) AS failures,
    quantilesExactIf(0.5, 0.95, 0.99)(duration_us, outcome != 'cut') AS percentiles,
    if(attempts = cut, NULL, percentiles[1] / 1000) AS p50_ms,
    if(attempts = cut, NULL, percentiles[2] / 1000) AS p95_ms,
    if(attempts = cut, NULL, percentiles[3] / 1000) AS p99_ms
FROM {{name "attempts"}} FINAL
WHERE kind = 'attempt'
GROUP BY tenant, endpoint_id, minute
SETTINGS do_not_merge_across_partitions_select_final = 1;
