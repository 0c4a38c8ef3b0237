-- The least time reached on all inputs; 1970-01-01 while either topic is unknown,
-- as nothing can be said then.
CREATE OR REPLACE VIEW {{name "ledger_as_of"}}{{onCluster}} AS
SELECT if(uniqExact(topic) = 2, min(reached_at), toDateTime64(0, 3, 'UTC')) AS as_of
FROM (SELECT topic, max(reached_at) AS reached_at FROM {{name "progress"}} GROUP BY topic, `partition`);
