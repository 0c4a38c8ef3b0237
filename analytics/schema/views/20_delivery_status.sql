-- One row for each delivery and run: where it stands.
--
-- Both tables feed one GROUP BY, so a filter on a group key reaches the primary
-- key and the skip indexes of both, which it would not through a JOIN. No
-- aggregate here is moved by a row that is there twice (min, max, argMin by
-- offset, argMax by moment, uniqExact): nothing needs FINAL, merged or not.
--
-- event_id and event_source are group keys because delivery_id is made of them;
-- the event's type is not, as nothing stops a producer from sending an ID again
-- with another type.
{{define "delivery_status"}}SELECT
    tenant, endpoint_id, delivery_id, run, event_id, event_source, event_type,
    CAST(transform(last_verdict, [3, 2, 1], ['delivered', 'dead', 'discarded'], 'pending'), 'LowCardinality(String)') AS state,
    nullIf(last_status, 0) AS status_code,
    last_response AS response,
    attempts, begun_at, matched_at,
    if(last_verdict = 3, first_delivered_at, NULL) AS delivered_at,
    if(last_verdict = 0 AND last_next_at > 0, last_next_at, NULL) AS next_at,
    last_reason AS reason,
    body_id,
    dictGet({{dictionary "message_bodies"}}, 'body', tuple(body_id)) AS payload
FROM
(
    SELECT
        tenant, endpoint_id, delivery_id, run, event_id, event_source,
        argMin(event_type, `offset`) AS event_type,
        argMin(body_id, `offset`) AS body_id,
        min(begun_at) AS begun_at,
        argMin(matched_at, `offset`) AS matched_at,
        max(verdict) AS last_verdict,
        max(next_at) AS last_next_at,
        -- The POST that decided, or else the last: the answer of a POST that came
        -- after the delivered one tells nothing.
        argMaxIf(status, moment, kind = 'attempt') AS last_status,
        argMaxIf(response, moment, kind = 'attempt') AS last_response,
        argMax(reason, moment) AS last_reason,
        uniqExactIf(attempt_id, kind = 'attempt') AS attempts,
        minIf(ended_at, verdict = 3) AS first_delivered_at
    FROM
    (
        SELECT
            tenant, endpoint_id, delivery_id, run, event_id, event_source, event_type, body_id, begun_at, matched_at,
            `offset`, CAST('', 'LowCardinality(String)') AS kind, toUUID('00000000-0000-0000-0000-000000000000') AS attempt_id,
            toUInt16(0) AS status, '' AS response, CAST('', 'LowCardinality(String)') AS reason,
            toDateTime64(0, 3, 'UTC') AS next_at, toDateTime64(0, 3, 'UTC') AS ended_at,
            toUInt8(0) AS verdict, toUInt128(0) AS moment
        FROM {{stored "deliveries"}}{{.Where}}
        UNION ALL
        SELECT
            tenant, endpoint_id, delivery_id, run, event_id, event_source, event_type, body_id, begun_at, matched_at,
            `offset`, kind, attempt_id, status, response, reason, next_at, ended_at, verdict, moment
        FROM {{stored "attempts"}}{{.Where}}
    )
    GROUP BY tenant, endpoint_id, delivery_id, run, event_id, event_source
){{end -}}

CREATE OR REPLACE VIEW {{stored "delivery_status"}}{{onCluster}} AS
{{template "delivery_status" always}};
{{distributedView "delivery_status"}}

-- The same for deliveries begun in [since, until), from the days of that time alone.
-- An event that its producer sends again, under the same ID, more than an hour
-- later is a delivery of either time here.
CREATE OR REPLACE VIEW {{name "delivery_status_between"}}{{onCluster}} AS
SELECT * FROM {{everywhere}}
{{template "delivery_status" around}}
{{endEverywhere}}
WHERE begun_at >= {since:DateTime64(3, 'UTC')} AND begun_at < {until:DateTime64(3, 'UTC')};
