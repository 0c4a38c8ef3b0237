// Package lanes gives every endpoint a lane: a number of POSTs that may be in
// flight to it at once, which follows what the endpoint can take, and a bounded
// queue for what has to wait. It decides; the caller sends. Nothing in it knows
// Kafka, HTTP, goroutines or a clock: the caller holds one lock around a [Set]
// and passes the time in.
//
// # What a delivery is told
//
// [Set.Offer] answers Start (POST it now), Queued (a later [Set.Finish] or
// [Set.Due] hands it out), Spill (the lane works but is full: put it back and
// let it return at its turn) or Park (the lane makes no progress, or is full and
// does nothing but fail: put it back for longer). Every item offered leaves the
// set exactly once: started, or refused by Offer, or taken out by Shed, Trim,
// Remove, RemoveFrom or RemoveKey.
//
// # Why a sick endpoint costs its neighbours nothing
//
// The scarce thing is MaxInFlight, C below. A hanging endpoint can only be told
// from a slow one by waiting, so slots are given by what is known of a lane,
// and each kind of lane has a gate that closes before the slots run out:
//
//	small  trusted, fewer than InitialWidth in flight   total < C
//	big    trusted, InitialWidth or more in flight      total < C - C/8
//	first  unproven, nothing in flight                  total < C, suspects < C*UnprovenShare
//	extra  unproven, something in flight                total < C, suspects < C/8
//	sick   last outcome a failure, or oldest POST out   total < C, suspects < C*UnprovenShare,
//	       for SlowAfter                                sick < C*SickShare
//
// where suspects are the POSTs in flight of unproven and sick lanes together. A
// lane is unproven until its first success, and again whenever it has something
// in flight and has not answered for half a second (or twice its usual latency,
// if that is more). What follows:
//
//   - Brand-new lanes that hang get C*UnprovenShare slots among them, ever: what
//     turns from unproven to sick stays a suspect, so there is no second wave.
//     Past C/8 each of them gets one slot rather than four. With the defaults
//     (4,096; 3/4) 2,000 endpoints that hang from their first POST hold at
//     most 128*4 + 1,872 = 2,384 slots; a healthy newcomer finds 688 left to prove
//     itself with, and lanes that are proven have 1,024 which no suspect can take.
//   - Lanes that were fine and begin to hang together (their host went down) stop
//     being trusted after half a second. Until then wide lanes can take no more
//     than 7/8 of C; the last eighth is for lanes with little in flight.
//   - A lane that fails or hangs has one POST out at a time. One that still
//     answers while a POST is out for longer than SlowAfter is held to the sick
//     share but not to one: else one hanging request in a hundred would stop the
//     other ninety-nine.
//   - A lane known to be sick is given a slot only while sick lanes hold less
//     than their share. Slots held by a lane at the moment it turns sick can't be
//     taken back, so the share bounds what is started, and the time-out of a POST
//     bounds how long the excess lasts.
//   - Nobody starves. Each kind waits in its own ring, served in turn, and the
//     rings are served by fixed weights in which the sick have one slot in
//     sixteen. Gates big and extra may stay closed for long, but a lane held
//     there drains until it is small, or first, and then competes like the rest.
//
// # Spills
//
// A lane is full when it has queued what its bounds in records and bytes allow,
// or as much as it can start within QueueFor: what is queued isn't finished, and
// whoever remembers what is unfinished would remember more and more behind a slow
// lane. A lane that gets slow afterwards gives its queue up, half of it at a time
// ([Set.Overlong], [Set.Trim]).
//
// A full lane that makes progress tells each delivery it refuses when to come
// back: one after the other, at the pace the lane works, the first of them when
// half the queue will have been worked off. So the queue hovers around half
// full: it neither runs dry nor refuses those whose turn has come. While any are
// out, new arrivals line up behind them. Turns are given 5 % closer than the
// pace: a delivery that comes back too early is spilled once more, one
// that comes too late leaves the endpoint idle. The pace is measured while there
// is a backlog; a lane that has run dry does at least what its width and latency
// come to.
package lanes
