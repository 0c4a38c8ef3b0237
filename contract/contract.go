package contract

import (
	"crypto/tls"
	"slices"
	"time"
)

// Contract is how deliveries to one kind of receiver look on the wire, and
// what the platform promised about them. Immutable; made by [Load].
type Contract struct {
	name        string
	description string

	form      bodyForm
	fields    []field // of the object form, in their order
	signature signature
	headers   []header        // the contract's own, without those of the signature
	reserved  map[string]bool // canonical names that custom headers may not have
	secret    secretFormat

	timeout   time.Duration
	httpsOnly bool
	minTLS    uint16
	inactive  time.Duration // 0: never
	retry     retryPolicy
}

type retryPolicy struct {
	retried   statusSet
	gone      statusSet
	schedule  []time.Duration
	scheduled bool // schedule was written out, even if empty
	immediate *Immediate
}

// Immediate are retries in process, between the POST and the settlement, for
// contracts that don't retry by schedule.
type Immediate struct {
	Retries    int           // after the first POST, 1 to 10
	Initial    time.Duration // mean wait before the first retry
	Multiplier float64       // of the mean wait from one retry to the next, 1 to 10
	Jitter     float64       // each wait is its mean ± this fraction, 0 to below 1
	Total      time.Duration // from the first POST on; no retry begins after it
}

// Name returns the name that endpoints give as their contract.
func (c *Contract) Name() string { return c.name }

// Description returns one sentence for people; it may be empty.
func (c *Contract) Description() string { return c.description }

// Timeout returns how long one attempt may take, from dialling to the status
// line.
func (c *Contract) Timeout() time.Duration { return c.timeout }

// HTTPSOnly reports whether endpoints with an http URL must be refused.
func (c *Contract) HTTPSOnly() bool { return c.httpsOnly }

// MinTLS returns the lowest TLS version to accept, as in [tls.Config].
func (c *Contract) MinTLS() uint16 { return c.minTLS }

// RotationOverlap returns how long a rotated secret goes on signing beside its
// successor: 0 to 7 days.
func (c *Contract) RotationOverlap() time.Duration { return c.secret.overlap }

// Retryable reports whether an answer with that status may be followed by
// another attempt; status 0 stands for no answer (network error or timeout).
// A 2xx is a success and never retryable.
func (c *Contract) Retryable(status int) bool { return c.retry.retried.has(status) }

// Gone reports whether an answer with that status disables the endpoint.
func (c *Contract) Gone(status int) bool { return c.retry.gone.has(status) }

// InactiveAfter returns how long an endpoint may be without events before it is
// disabled; 0 for any time.
func (c *Contract) InactiveAfter() time.Duration { return c.inactive }

// Schedule returns the delays between scheduled attempts, each after the one
// before. When the second result is false, the contract leaves it to the
// line's default. An empty schedule with true means no scheduled retry at all.
func (c *Contract) Schedule() ([]time.Duration, bool) {
	return slices.Clone(c.retry.schedule), c.retry.scheduled
}

// Immediate returns the contract's retries in process, nil when it has none.
// A contract that has some has an empty schedule.
func (c *Contract) Immediate() *Immediate {
	if c.retry.immediate == nil {
		return nil
	}
	i := *c.retry.immediate
	return &i
}

// statusSet is a set of HTTP statuses, with 0 for "no answer".
type statusSet [1000]bool

func (s *statusSet) has(status int) bool {
	if status < 0 || status >= len(s) {
		status = len(s) - 1 // no HTTP status: as any other that nobody knows
	}
	return s[status]
}

func (s *statusSet) set(from, to int, value bool) {
	for i := from; i <= to; i++ {
		s[i] = value
	}
}

// tlsVersions are the values of min_tls.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
