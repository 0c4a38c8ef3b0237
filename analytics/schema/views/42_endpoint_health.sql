-- How an endpoint's deliveries of the last seven days stand.
CREATE OR REPLACE VIEW {{stored "endpoint_deliveries"}}{{onCluster}} AS
SELECT
    tenant, endpoint_id,
    count() AS deliveries,
    countIf(last_verdict = 3) AS delivered,
    countIf(last_verdict = 2) AS dead,
    countIf(last_verdict = 1) AS discarded,
    countIf(last_verdict = 0) AS pending
FROM
(
    SELECT tenant, endpoint_id, delivery_id, run, max(verdict) AS last_verdict
    FROM
    (
        SELECT tenant, endpoint_id, delivery_id, run, toUInt8(0) AS verdict
        FROM {{stored "deliveries"}} WHERE begun_at >= now64(3, 'UTC') - INTERVAL 7 DAY AND {{kept .DeliveriesTTL}}
        UNION ALL
        SELECT tenant, endpoint_id, delivery_id, run, verdict
        FROM {{stored "attempts"}} WHERE begun_at >= now64(3, 'UTC') - INTERVAL 7 DAY AND {{kept .DeliveriesTTL}}
    )
    GROUP BY tenant, endpoint_id, delivery_id, run
)
GROUP BY tenant, endpoint_id;
{{distributedView "endpoint_deliveries"}}

-- How an endpoint is, by its POSTs and deliveries of the last seven days. A rate is
-- the delivered among the POSTs that were not cut short by ourselves; NULL without
-- any.
CREATE OR REPLACE VIEW {{name "endpoint_health"}}{{onCluster}} AS
SELECT
    tenant, endpoint_id,
    if(max(success_at) > 0, max(success_at), NULL) AS last_success_at,
    if(max(failure_at) > 0, max(failure_at), NULL) AS last_failure_at,
    sum(failures_since) AS consecutive_failures,
    sum(hour_attempts) AS attempts_hour,
    sum(hour_delivered) / nullIf(sum(hour_judged), 0) AS success_rate_hour,
    sum(day_attempts) AS attempts_day,
    sum(day_delivered) / nullIf(sum(day_judged), 0) AS success_rate_day,
    if(sum(day_judged) > 0, max(day_p95_us) / 1000, NULL) AS p95_ms_day,
    sum(pending) AS pending,
    sum(dead) AS dead
FROM
(
    SELECT
        tenant, endpoint_id,
        maxIf(started_at, outcome = 'delivered') AS success_at,
        maxIf(started_at, outcome IN ('retry', 'dead')) AS failure_at,
        length(arrayFilter(t -> t > success_at, groupArrayIf(started_at, outcome IN ('retry', 'dead')))) AS failures_since,
        countIf(started_at >= now64(3, 'UTC') - INTERVAL 1 HOUR) AS hour_attempts,
        countIf(started_at >= now64(3, 'UTC') - INTERVAL 1 HOUR AND outcome != 'cut') AS hour_judged,
        countIf(started_at >= now64(3, 'UTC') - INTERVAL 1 HOUR AND outcome = 'delivered') AS hour_delivered,
        countIf(started_at >= now64(3, 'UTC') - INTERVAL 1 DAY) AS day_attempts,
        countIf(started_at >= now64(3, 'UTC') - INTERVAL 1 DAY AND outcome != 'cut') AS day_judged,
        countIf(started_at >= now64(3, 'UTC') - INTERVAL 1 DAY AND outcome = 'delivered') AS day_delivered,
        quantileExactIf(0.95)(duration_us, started_at >= now64(3, 'UTC') - INTERVAL 1 DAY AND outcome != 'cut') AS day_p95_us,
        toUInt64(0) AS pending, toUInt64(0) AS dead
    FROM {{name "attempts"}} FINAL
    WHERE kind = 'attempt' AND started_at >= now64(3, 'UTC') - INTERVAL 7 DAY
    GROUP BY tenant, endpoint_id
    UNION ALL
    SELECT
        tenant, endpoint_id, toDateTime64(0, 3, 'UTC'), toDateTime64(0, 3, 'UTC'), 0, 0, 0, 0, 0, 0, 0, 0, pending, dead
    FROM {{name "endpoint_deliveries"}}
)
GROUP BY tenant, endpoint_id
SETTINGS do_not_merge_across_partitions_select_final = 1;
