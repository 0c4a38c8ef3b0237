-- Guarantee: matched = delivered + pending + dead + discarded + missing, for each
-- minute of begun_at up to as_of. The sum holds as every delivery is in exactly one
-- state; missing has to be 0, and isn't by definition (see reckoning).
{{define "reconciliation"}}SELECT
    toStartOfMinute(begun_at) AS minute,
    count() AS matched,
    countIf(state = 'delivered') AS delivered,
    countIf(state = 'pending') AS pending,
    countIf(state = 'dead') AS dead,
    countIf(state = 'discarded') AS discarded,
    countIf(state = 'missing') AS missing,
    min(as_of) AS as_of{{end -}}

CREATE OR REPLACE VIEW {{name "reconciliation"}}{{onCluster}} AS
{{template "reconciliation"}}
FROM {{name "reckoning"}}
GROUP BY minute;

CREATE OR REPLACE VIEW {{name "reconciliation_between"}}{{onCluster}} AS
{{template "reconciliation"}}
FROM {{name "reckoning_between"}}(since = {since:DateTime64(3, 'UTC')}, until = {until:DateTime64(3, 'UTC')})
GROUP BY minute;
