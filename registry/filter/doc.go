// Package filter decides by a CEL expression (Common Expression Language,
// https://cel.dev) whether an endpoint wants an event whose type it is
// subscribed to. No Kafka, no HTTP.
//
// An expression sees the event's attributes type, source, subject, id, tenant
// (text), time (a timestamp), extension (a map of text), and data (its payload,
// which must be JSON). It must be true or false:
//
//	data.total > 100.0 && extension.region == "eu"
//
// [Compile] checks types and estimates costs when it is registered.
// [Program.Wants] evaluates it within [MaxCost]; the payload is parsed when the
// first expression asks for it, and once for all expressions of one [Event].
//
// A field that isn't there means no: a filter doesn't have to ask has() first.
// Anything else that goes wrong means no as well, and says why by a [Trouble].
package filter
