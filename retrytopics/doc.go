// Package retrytopics delays deliveries in Kafka topics: the [Ladder] says
// which delay comes next, the [Publisher] puts a delivery where it belongs, and
// the [Reader] of each delay ("tier") moves on what has fallen due.
//
// A record in a tier waits exactly that tier's delay from its timestamp, so a
// tier's partitions are FIFOs by construction and only their heads need to be
// watched. A longer wait is cut greedily into tiers, and the rest that is
// shorter than the smallest tier travels to the deliveries topic as
// "not_before", where the owner of the endpoint holds it.
//
// Times on the way are whole milliseconds, because Kafka's timestamps and the
// not_before header are.
package retrytopics
