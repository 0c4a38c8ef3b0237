// Package integration holds the line's promises against what they were made
// for: the real binary as a child process, a real Apache Kafka, real sockets
// and real signals. Its tests run with -tags integration; see
// [posthorn/internal/kafkatest] for what they need.
//
// Every run prints its counts and timings. Laws decide whether it passes; the
// timings do so only with POSTHORN_ISOLATION_ASSERT=1.
package integration
