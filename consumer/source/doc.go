// Package source reads Kafka records of a platform's event topics into
// [webhook.Event]s, and describes those that can't be read.
//
// Two formats are understood: CloudEvents 1.0 in its Kafka protocol binding,
// binary and structured content mode, and any JSON, whose attributes a mapping
// takes from headers, JSON Pointers or constants.
//
// The package knows no Kafka client and holds no state: a [Reader] is a pure
// function of its configuration and a [Record]. Bad input is an [Invalid] with
// a bounded reason, never an error that a caller might retry.
package source
