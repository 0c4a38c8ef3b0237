// Package replay makes deliveries of what was, at the wish of a user: of a
// stretch of the event topics, or of deliveries that failed.
//
// A replay is a record of the registry, which says what is wanted and whether it
// is paused or cancelled, and a record on the topic of replays, which makes its
// reader the one owner. [Runner] is the [consumer.Handler] of the stage that
// reads that topic. How far a replay has come is saved in the registry when the
// deliveries up to there are acknowledged; a successor goes on from there, and
// what it repeats has the identities that it had.
//
// [Pacer] keeps a replay behind what is live.
package replay
