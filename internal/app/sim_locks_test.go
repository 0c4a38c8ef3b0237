//go:build synctests

package app

// kgoLocksYield says that kgo was built with locks that virtual time can pass
// under (its build tag synctests). With its usual ones, a goroutine that waits
// for a lock across a rebalance stops the bubble's clock for ever.
const kgoLocksYield = true
