// Package telemetry is how the line is seen from outside: [Spans] for traces,
// [Metrics] for Prometheus, and [Admin], the one HTTP server that serves
// health, readiness, metrics and whatever else is mounted on it.
//
// Nothing here is labelled by endpoint or tenant: their number has no bound.
// Figures by endpoint come from the ledger. Neither spans nor metrics carry
// secrets, bodies, or more of a URL than its host.
package telemetry
