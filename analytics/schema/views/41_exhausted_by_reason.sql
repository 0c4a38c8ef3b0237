-- Deliveries that died, one row for each delivery and run: those with a settlement
-- that says so and none that says delivered. The dead are few: they are found
-- first, then only theirs are looked for among the delivered.
CREATE OR REPLACE VIEW {{stored "dead_deliveries"}}{{onCluster}} AS
SELECT
    tenant, endpoint_id, delivery_id, run, event_id, event_source,
    argMax(event_type, moment) AS event_type,
    argMax(reason, moment) AS reason,
    nullIf(argMaxIf(status, moment, kind = 'attempt'), 0) AS status_code,
    max(ended_at) AS died_at
FROM {{stored "attempts"}}
WHERE verdict = 2
    AND {{kept .AttemptsTTL}}
    AND (delivery_id, run) NOT IN
    (
        SELECT delivery_id, run
        FROM {{stored "attempts"}}
        WHERE outcome = 'delivered' AND {{kept .AttemptsTTL}} AND delivery_id IN (SELECT delivery_id FROM {{stored "attempts"}} WHERE verdict = 2)
    )
GROUP BY tenant, endpoint_id, delivery_id, run, event_id, event_source;
{{distributedView "dead_deliveries"}}

CREATE OR REPLACE VIEW {{name "exhausted_by_reason"}}{{onCluster}} AS
SELECT toDate(died_at) AS day, tenant, endpoint_id, reason, count() AS deliveries
FROM {{name "dead_deliveries"}}
GROUP BY day, tenant, endpoint_id, reason;
