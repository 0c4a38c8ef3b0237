// Package embedded runs what Posthorn needs without a server to install, for
// development, demonstrations and tests: a Kafka broker that speaks the real
// protocol on a real port ([StartKafka]), the same on an in-memory network for
// tests in virtual time ([StartVirtual]), and ClickHouse behind its HTTP interface
// ([StartClickHouse]).
//
// The broker is kfake. It is one node, for one machine; it has no replication
// and no quotas, and it bounds no commit metadata. Production runs on Apache
// Kafka.
//
// ClickHouse is libchdb, the real engine as a library, in a child process that is
// this program again. It has one user without a password, on loopback alone, and
// neither the native protocol nor replication, clusters, sessions and external
// tables. Production runs on a ClickHouse server.
package embedded
