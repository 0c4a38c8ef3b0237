-- One row for each delivery and run on the deliveries topic that was matched up to
-- as_of: the account that reconciliation counts. It differs from delivery_status
-- in what it takes for pending: a delivery without an end must prove that it has
-- one ahead. What can't is missing.
--
-- as_of is the least time reached on all inputs. A row of a partition in progress
-- that was taken after as_of may know more than the attempts that have arrived, so
-- each partition is judged by its latest row up to as_of.
--
-- Pending is a delivery without an end
-- - that was never settled and isn't below done_offset: nobody claims it was; or
-- - whose next attempt may still be under way: next_at + grace + lag > as_of, where
--   the lag is as_of - done_at, as dispatch has done all that was due before
--   done_at. That is next_at + grace > done_at.
-- Where a partition has no row yet, nothing can be said: pending.
{{define "reckoning"}}WITH
    (SELECT as_of FROM {{name "ledger_as_of"}}) AS reached,
    -- partition → (done_offset, done_at)
    (
        SELECT mapFromArrays(groupArray(`partition`), groupArray(done))
        FROM
        (
            SELECT `partition`, argMax((done_offset, done_at), taken_at) AS done
            FROM {{name "progress"}}
            WHERE topic = 'deliveries' AND taken_at <= reached
            GROUP BY `partition`
        )
    ) AS done_by_partition
SELECT
    tenant, endpoint_id, delivery_id, run,
    CAST(multiIf(
        last_verdict = 3, 'delivered',
        last_verdict = 2, 'dead',
        last_verdict = 1, 'discarded',
        NOT mapContains(done_by_partition, its_partition), 'pending',
        settled, if(last_due_at + toIntervalSecond({{seconds .Grace}}) > done.2, 'pending', 'missing'),
        first_offset >= done.1, 'pending',
        'missing'), 'LowCardinality(String)') AS state,
    begun_at, matched_at, its_partition AS `partition`, first_offset AS `offset`,
    if(settled AND last_verdict = 0, last_due_at, NULL) AS due_at,
    reached AS as_of
FROM
(
    SELECT
        tenant, endpoint_id, delivery_id, run,
        min(begun_at) AS begun_at,
        argMin(matched_at, `offset`) AS matched_at,
        any(`partition`) AS its_partition,
        done_by_partition[its_partition] AS done,
        minIf(`offset`, is_delivery) AS first_offset,
        max(is_delivery) AS matched,
        max(NOT is_delivery) AS settled,
        max(verdict) AS last_verdict,
        -- A settlement that ends nothing and has no next_at can't be put off by one.
        max(greatest(next_at, ended_at)) AS last_due_at
    FROM
    (
        SELECT
            tenant, endpoint_id, delivery_id, run, begun_at, matched_at, `partition`, `offset`, true AS is_delivery,
            toUInt8(0) AS verdict, toDateTime64(0, 3, 'UTC') AS next_at, toDateTime64(0, 3, 'UTC') AS ended_at
        FROM {{stored "deliveries"}}{{.Where}}
        UNION ALL
        SELECT
            tenant, endpoint_id, delivery_id, run, begun_at, matched_at, `partition`, `offset`, false AS is_delivery,
            verdict, next_at, ended_at
        FROM {{stored "attempts"}}{{.Where}}
    )
    GROUP BY tenant, endpoint_id, delivery_id, run
)
WHERE matched AND matched_at <= reached{{end -}}

CREATE OR REPLACE VIEW {{stored "reckoning"}}{{onCluster}} AS
{{template "reckoning" always}};
{{distributedView "reckoning"}}

CREATE OR REPLACE VIEW {{name "reckoning_between"}}{{onCluster}} AS
SELECT * FROM {{everywhere}}
{{template "reckoning" around}}
{{endEverywhere}}
WHERE begun_at >= {since:DateTime64(3, 'UTC')} AND begun_at < {until:DateTime64(3, 'UTC')};
