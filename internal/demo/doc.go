// Package demo shows the line at work, in one process and on one screen: it
// starts a development line, registers endpoints of every contract at a
// receiver of its own, produces events as a platform would, and follows each
// delivery from the event to its last settlement.
//
// Nothing in it is staged but the receiver's misbehaviour: events go through
// Kafka, endpoints through the HTTP API, signatures are checked with package
// verify and secrets that the API returned, and the sums come from the ledger.
//
// # How to read it
//
// scenario.go says what is sent and what has to come of it, score.go (no
// Kafka, no HTTP) compares that with what did. demo.go is the order of events;
// the rest is its hands: datadir, certificate, register, receiver, produce,
// ledger, and report, which writes to the screen.
package demo
