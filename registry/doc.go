// Package registry keeps what users registered (tenants, endpoints) and what
// the line learned of it (breakers, health): one compacted Kafka topic of a
// single partition, whose offset is the registry's version.
//
//   - [Store] holds the topic's state in memory, with the match index.
//   - [Follower] reads the topic into a store, and says how fresh that is.
//   - [Writer] changes endpoints under one lock over all processes.
//   - [Learned] writes what the system itself finds out.
//   - [Keyset] seals and opens signing secrets.
//   - [ValidateEndpoint] holds the rules that a registration must meet.
//
// Record keys are "kind/ID", values JSON; a record without a value (a
// tombstone) removes its key.
package registry
