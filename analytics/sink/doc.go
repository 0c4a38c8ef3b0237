// Package sink streams deliveries, bodies and settlements from Kafka into
// ClickHouse, each counted once.
//
// Every partition is cut into batches, and each batch becomes one insert per
// table. Before an insert its range of offsets is committed as the plan of the
// partition, in the metadata of the offset; after it, the offset behind the
// range. A sink that dies in between leaves a plan, and its successor cuts the
// very same batch, whose deduplication token (topic, partition, range)
// ClickHouse knows if the insert had come through. Should the token be
// forgotten, the tables collapse equal rows all the same, and their aggregates
// hold only states that the same row changes once.
//
// ClickHouse may be away for as long as Kafka keeps the records: reading stops
// when the budget of buffered bytes is used, and goes on when inserts do.
package sink
