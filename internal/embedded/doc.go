// Package embedded runs what Posthorn needs inside its own process, for
// development, demonstrations and tests: a Kafka broker that speaks the real
// protocol on a real port ([StartKafka]), and the same on an in-memory network
// for tests in virtual time ([StartVirtual]).
//
// The broker is kfake. It is one node, for one machine; it has no replication
// and no quotas, and it bounds no commit metadata. Production runs on Apache
// Kafka.
package embedded
