package topics

import (
	"fmt"
	"strings"
)

// Kind says in which way a topic differs from its plan.
type Kind string

// The kinds of problems.
const (
	KindMissing         Kind = "missing"               // there is no such topic
	KindPartitions      Kind = "partitions"            // another partition count than planned or recorded
	KindUnequal         Kind = "unequal_partitions"    // deliveries and retry tiers have different counts
	KindRetention       Kind = "short_retention"       // records would be deleted while they wait
	KindCleanup         Kind = "cleanup_policy"        // compacted where it must not be, or the other way round
	KindMessageSize     Kind = "small_messages"        // a record that the line may produce would be refused
	KindInsync          Kind = "min_insync"            // more in-sync replicas wanted than there are replicas
	KindAbandoned       Kind = "abandoned_tier"        // a retry topic that no tier names still holds records
	KindReplication     Kind = "few_replicas"          // fewer replicas than configured
	KindConfigDiffers   Kind = "config_differs"        // another value than planned, without harm
	KindPartitionsFresh Kind = "partitions_unrecorded" // no count in the registry yet
)

// Problem is one way in which a topic differs from its plan.
type Problem struct {
	Kind  Kind
	Topic string
	// Refuses says that a process must not start with it; the others are
	// worth a warning.
	Refuses bool
	// Text says what is found, what is wanted, and what to do.
	Text string
}

// String returns one line for people.
func (p Problem) String() string { return p.Topic + ": " + p.Text }

// NotReadyError holds every problem for which a process refuses to start.
type NotReadyError struct {
	Problems []Problem
}

func (e *NotReadyError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the topics are not ready, %d problems:", len(e.Problems))
	if len(e.Problems) == 1 {
		b.Reset()
		b.WriteString("the topics are not ready:")
	}
	for _, p := range e.Problems {
		b.WriteString("\n  ")
		b.WriteString(p.String())
	}
	return b.String()
}

// Refusals returns a [*NotReadyError] with those problems for which a process
// refuses to start, or nil.
func Refusals(problems []Problem) error {
	var e NotReadyError
	for _, p := range problems {
		if p.Refuses {
			e.Problems = append(e.Problems, p)
		}
	}
	if len(e.Problems) == 0 {
		return nil
	}
	return &e
}
