package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"posthorn/internal/config"
	"posthorn/verify"
)

// ReceiverConfig says how a [Receiver] behaves.
type ReceiverConfig struct {
	// Secrets of the endpoints whose deliveries come here. Without any,
	// signatures aren't verified.
	Secrets []string
	// Status answers every delivery (200 when 0), after Delay; but for one
	// whose signature is bad or missing, secrets being known: that gets 401.
	Status int
	Delay  time.Duration
	// Hang never answers.
	Hang bool
	// FailFirst answers that many POSTs of each delivery with FailStatus (503
	// when 0), before Status has its turn.
	FailFirst  int
	FailStatus int
	// RetryAfter goes with every answer that isn't 2xx; 0 sends none.
	RetryAfter time.Duration
	// MaxBody is the largest body that is read (1 MiB when 0); what is longer
	// is answered 413.
	MaxBody config.Size
}

// Validate reports the first mistake, as a [*UsageError].
func (c ReceiverConfig) Validate() error {
	for flag, status := range map[string]int{"--status": c.Status, "--fail-status": c.FailStatus} {
		if status != 0 && (status < 200 || status > 599) {
			return usagef("%s %d: want a status from 200 to 599", flag, status)
		}
	}
	if c.Delay < 0 || c.RetryAfter < 0 || c.FailFirst < 0 || c.MaxBody < 0 {
		return usagef("--delay, --retry-after, --fail-first and --max-body must not be negative")
	}
	for i, s := range c.Secrets {
		if len(verifiers([]string{s})) == 0 {
			return usagef("--secret (number %d): no contract has secrets of that form; want whsec_… or whpk_…, as it was issued", i+1)
		}
	}
	return nil
}

// Signature says what came of a delivery's signature.
type Signature string

// What can come of a signature.
const (
	SignatureOK        Signature = "ok"
	SignatureBad       Signature = "bad"       // it doesn't verify
	SignatureMissing   Signature = "missing"   // there is none
	SignatureUnchecked Signature = "unchecked" // no secret was given
)

// Received is one request that a [Receiver] got.
type Received struct {
	At time.Time
	// N counts requests from 1; Try those of the same delivery.
	N, Try int
	// ID of the delivery, as its contract names it, or a digest of the body.
	ID string
	// Type of the event, where the contract tells it.
	Type   string
	Method string
	Path   string
	Header http.Header
	Body   []byte
	// TooLong says that Body is only the beginning.
	TooLong   bool
	Signature Signature
	Scheme    string // whose signature it is
	Reason    string // why it is bad
	// Status is the answer; 0 when there was none.
	Status int
}

// ReceiverCounts are what a [Receiver] got so far.
type ReceiverCounts struct {
	Requests   int64 // all of them
	Deliveries int64 // distinct ones answered 2xx, as long as they are remembered
	Verified   int64 // requests whose signature is good
	Unverified int64 // requests whose signature is bad or missing, secrets being known
	Refused    int64 // requests answered with another status than 2xx, or not at all
}

// Receiver is an HTTP handler that receives deliveries, verifies them, tells of
// them and misbehaves on demand. It is safe for concurrent use.
type Receiver struct {
	cfg     ReceiverConfig
	schemes map[verify.Scheme]*verify.Verifier
	tell    func(*Received)

	requests, deliveries, verified, unverified, refused atomic.Int64

	mu    sync.Mutex
	tries map[string]*tried
	order []string // of tries, oldest first
}

type tried struct {
	posts     int
	delivered bool
}

// rememberedDeliveries bounds the memory of tries; the oldest are forgotten.
const rememberedDeliveries = 100_000

const defaultMaxBody = config.MiB

// NewReceiver returns a receiver that calls tell (if not nil) for each request
// just before it is answered, from the request's goroutine. The error is a
// [*UsageError].
func NewReceiver(cfg ReceiverConfig, tell func(*Received)) (*Receiver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if cfg.Status == 0 {
		cfg.Status = http.StatusOK
	}
	if cfg.FailStatus == 0 {
		cfg.FailStatus = http.StatusServiceUnavailable
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = defaultMaxBody
	}
	if tell == nil {
		tell = func(*Received) {}
	}
	return &Receiver{cfg: cfg, schemes: verifiers(cfg.Secrets), tell: tell, tries: map[string]*tried{}}, nil
}

// verifiers makes a verifier for each scheme of those secrets that have its
// form: a secret doesn't tell whose it is, the request's headers do.
func verifiers(secrets []string) map[verify.Scheme]*verify.Verifier {
	out := map[verify.Scheme]*verify.Verifier{}
	for _, scheme := range []verify.Scheme{verify.Standard, verify.Bunship, verify.Bunjang} {
		var fit []string
		for _, s := range secrets {
			if _, err := verify.New(scheme, []string{s}); err == nil {
				fit = append(fit, s)
			}
		}
		if v, err := verify.New(scheme, fit); err == nil {
			out[scheme] = v
		}
	}
	return out
}

// Counts returns what was received so far.
func (rc *Receiver) Counts() ReceiverCounts {
	return ReceiverCounts{
		Requests: rc.requests.Load(), Deliveries: rc.deliveries.Load(),
		Verified: rc.verified.Load(), Unverified: rc.unverified.Load(), Refused: rc.refused.Load(),
	}
}

// ServeHTTP receives one request.
func (rc *Receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	got := &Received{
		At: time.Now(), N: int(rc.requests.Add(1)),
		Method: r.Method, Path: r.URL.RequestURI(), Header: r.Header.Clone(),
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(rc.cfg.MaxBody)))
	got.Body = body
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		got.TooLong = true
	} else if err != nil {
		rc.refused.Add(1)
		return // the sender has gone
	}
	got.identify()
	rc.verify(got)
	got.Try = rc.count(got.ID)
	status, wait := rc.answer(got)
	got.Status = status
	if status < 200 || status > 299 {
		rc.refused.Add(1)
	}
	if status == 0 {
		rc.tell(got)
		<-r.Context().Done()
		return
	}
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			got.Status = 0
			rc.tell(got)
			return
		}
	}
	rc.tell(got)
	rc.settle(got)
	if status > 299 && rc.cfg.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((rc.cfg.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(status)
}

// answer decides on the status (0 for none) and how long it is waited with.
func (rc *Receiver) answer(got *Received) (status int, wait time.Duration) {
	switch {
	case got.TooLong:
		return http.StatusRequestEntityTooLarge, 0
	case rc.cfg.Hang:
		return 0, 0
	case got.Signature == SignatureBad || got.Signature == SignatureMissing:
		return http.StatusUnauthorized, rc.cfg.Delay
	case got.Try <= rc.cfg.FailFirst:
		return rc.cfg.FailStatus, rc.cfg.Delay
	default:
		return rc.cfg.Status, rc.cfg.Delay
	}
}

// count notes one more try of a delivery and returns how many there were.
func (rc *Receiver) count(id string) int {
	rc.mu.Lock()
	defer rc.mu.Unlock()
	t := rc.tries[id]
	if t == nil {
		if len(rc.order) == rememberedDeliveries {
			delete(rc.tries, rc.order[0])
			rc.order = rc.order[1:]
		}
		t = &tried{}
		rc.tries[id] = t
		rc.order = append(rc.order, id)
	}
	t.posts++
	return t.posts
}

// settle counts a delivery the first time that it is answered 2xx.
func (rc *Receiver) settle(got *Received) {
	if got.Status < 200 || got.Status > 299 {
		return
	}
	rc.mu.Lock()
	defer rc.mu.Unlock()
	if t := rc.tries[got.ID]; t != nil && !t.delivered {
		t.delivered = true
		rc.deliveries.Add(1)
	}
}

func (rc *Receiver) verify(got *Received) {
	scheme, signed := verify.Detect(got.Header)
	if signed {
		got.Scheme = scheme.String()
	}
	switch v := rc.schemes[scheme]; {
	case len(rc.schemes) == 0 && signed:
		got.Signature = SignatureUnchecked
		return
	case !signed:
		got.Signature = SignatureMissing
		if len(rc.schemes) == 0 {
			return
		}
	case got.TooLong:
		got.Signature, got.Reason = SignatureBad, "the body is too long to be read whole"
	case v == nil:
		got.Signature, got.Reason = SignatureBad, "none of the secrets has the form of this scheme's"
	default:
		if err := v.Verify(got.Header, got.Body); err != nil {
			got.Signature, got.Reason = SignatureBad, err.Error()
		} else {
			got.Signature = SignatureOK
		}
	}
	if got.Signature == SignatureOK {
		rc.verified.Add(1)
	} else {
		rc.unverified.Add(1)
	}
}

// identify finds the delivery's ID and the event's type, which each contract
// names in its own way: in headers, or as members of the body.
func (r *Received) identify() {
	var members struct {
		EventID   string `json:"eventId"`
		EventType string `json:"eventType"`
		Type      string `json:"type"`
		Scope     string `json:"scope"`
	}
	// A body of another form has none of them.
	if err := json.Unmarshal(r.Body, &members); err != nil {
		members.EventID, members.EventType, members.Type, members.Scope = "", "", "", ""
	}
	h := r.Header
	r.Type = firstOf(h.Get("X-Webhook-Event"), h.Get("Ce-Type"), members.EventType, members.Scope, members.Type)
	r.ID = firstOf(h.Get("Webhook-Id"), h.Get("X-Webhook-Delivery-Id"), members.EventID)
	if r.ID == "" {
		sum := sha256.Sum256(r.Body)
		r.ID = "sha256:" + hex.EncodeToString(sum[:8])
	}
}
