// Package kafkatest runs a real Apache Kafka for integration tests: one KRaft
// broker, its jars fetched by Maven into .cache/ of the repository, its data in
// a temporary directory, its listener on loopback.
//
// [Start] gives a test a broker of its own, which it can kill and restart;
// [Shared] gives all tests of a process the same one, stopped by [Main]. Where
// Java 17 or Maven is missing, tests are skipped with the reason, unless the
// environment says POSTHORN_REQUIRE_KAFKA=1: then they fail.
//
// No broker outlives its test process, however that ends: a watchdog process
// holds the reading end of a pipe from it and kills the broker's process group
// when the pipe closes. (A parent-death signal would be tied to the operating
// system thread that forked, which the Go runtime may end, and is Linux alone.)
package kafkatest
