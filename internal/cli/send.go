package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/time/rate"

	"posthorn/internal/config"
)

// SendConfig says which events [Send] produces.
type SendConfig struct {
	Kafka config.Kafka
	Topic string

	// Attributes of the events; in JSON lines, of those that leave them out.
	Type, Source, Tenant, Subject string
	Extensions                    map[string]string
	// ID of the event; with a Count above 1 the first of several: ID-1, ID-2.
	// Empty makes a new one for each.
	ID string
	// ContentType of Data.
	ContentType string
	// Traceparent and Tracestate (W3C Trace Context) go along as Kafka headers.
	Traceparent, Tracestate string

	// Data is the payload of events from flags. Nil means that events are read
	// as JSON lines from File ("-" or empty for Stdin).
	Data  []byte
	File  string
	Stdin io.Reader

	// Count is how many events are made of Data (0 means 1), or the most that
	// are read (0 means all).
	Count int
	// Rate is the most events per second; 0 means as fast as possible.
	Rate float64
	// MaxMessage is the largest record batch; the broker has its own limit.
	MaxMessage config.Size

	// JSON writes the summary as JSON.
	JSON bool
}

// Validate reports the first mistake, as a [*UsageError].
func (c *SendConfig) Validate() error {
	switch {
	case c.Topic == "":
		return usagef("--topic is required: the topic to produce to")
	case c.Data != nil && c.File != "":
		return usagef("give either --data or --file")
	case c.Data != nil && c.Type == "":
		return usagef("--type is required with --data: the kind of event, such as order.created")
	case c.Count < 0:
		return usagef("--count must be 0 or more")
	case c.Rate < 0:
		return usagef("--rate must be 0 or more events per second")
	case c.Data == nil && c.ID != "":
		return usagef("--id belongs to --data; in JSON lines each event has its own id")
	}
	for name := range c.Extensions {
		if err := checkExtension(name); err != nil {
			return usagef("--extension %s: %v", name, err)
		}
	}
	if c.MaxMessage < config.KiB || c.MaxMessage > 64*config.MiB {
		return usagef("--max-message %s: want 1KiB to 64MiB", c.MaxMessage)
	}
	return nil
}

// Summary counts what [Send] did.
type Summary struct {
	Topic  string `json:"topic"`
	Sent   int    `json:"sent"`   // acknowledged by Kafka
	Failed int    `json:"failed"` // produced, and refused or not acknowledged
	// Took is from the first event to the last acknowledgement.
	Took time.Duration `json:"took_ns"`
	Rate float64       `json:"per_second"`
}

// flushTimeout bounds how long Send waits for what is in flight after the last
// event, or after it was interrupted.
const flushTimeout = 30 * time.Second

// Send produces CloudEvents to a topic, in the binary mode of the Kafka binding,
// with an idempotent producer, and writes a summary to out. It ends at the first
// event that can't be read or produced; what was produced before is waited for
// and counted.
func Send(ctx context.Context, c SendConfig, out io.Writer) (Summary, error) {
	if err := c.Validate(); err != nil {
		return Summary{}, err
	}
	next, closeInput, err := c.events()
	if err != nil {
		return Summary{}, err
	}
	defer closeInput()
	cl, err := connect(ctx, c.Kafka,
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.ProducerBatchMaxBytes(int32(c.MaxMessage)),
		kgo.RecordDeliveryTimeout(flushTimeout),
	)
	if err != nil {
		return Summary{}, err
	}
	defer cl.Close()

	s, err := produce(ctx, cl, &c, next)
	var werr error
	if c.JSON {
		werr = writeJSON(out, s)
	} else {
		werr = writef(out, "sent=%d failed=%d topic=%s took=%s rate=%.0f/s\n", s.Sent, s.Failed, s.Topic, s.Took.Round(time.Millisecond), s.Rate)
	}
	return s, errors.Join(err, werr)
}

func produce(ctx context.Context, cl *kgo.Client, c *SendConfig, next func() (*cloudEvent, error)) (Summary, error) {
	limit := rate.NewLimiter(rate.Inf, 1)
	if c.Rate > 0 {
		// A hundredth of a second's worth at once: a timer is not finer.
		limit = rate.NewLimiter(rate.Limit(c.Rate), max(1, int(c.Rate/100)))
	}
	// Once one event has failed no further one is begun.
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var mu sync.Mutex
	s := Summary{Topic: c.Topic}
	began := time.Now()
	var failure error
	for {
		if failure = limit.Wait(ctx); failure != nil {
			break
		}
		e, err := next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			failure = err
			break
		}
		r := e.record(c)
		// What was begun is waited for after an interruption too.
		cl.Produce(context.WithoutCancel(ctx), r, func(_ *kgo.Record, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				s.Sent++
				return
			}
			s.Failed++
			stop(fmt.Errorf("producing event %s: %w", e.id, err))
		})
	}
	fctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushTimeout+pingTimeout)
	defer cancel()
	ferr := cl.Flush(fctx)

	mu.Lock()
	defer mu.Unlock()
	s.Took = time.Since(began)
	if s.Took > 0 {
		s.Rate = float64(s.Sent) / s.Took.Seconds()
	}
	if cause := context.Cause(ctx); cause != nil {
		return s, cause
	}
	switch {
	case failure != nil:
		return s, failure
	case ferr != nil:
		return s, fmt.Errorf("waiting for acknowledgements: %w", ferr)
	case s.Sent == 0:
		return s, usagef("no events: the input is empty")
	}
	return s, nil
}

// events returns what yields the events, io.EOF after the last one.
func (c *SendConfig) events() (next func() (*cloudEvent, error), closeInput func(), err error) {
	if c.Data != nil {
		return c.repeat(), func() {}, nil
	}
	name, in := "standard input", c.Stdin
	closeInput = func() {}
	if f, ok := in.(*os.File); ok && c.File == "" {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
			return nil, nil, usagef("no events: give --data, --file, or JSON lines on standard input")
		}
	}
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, nil, fmt.Errorf("opening events: %w", err)
		}
		name, in = c.File, f
		closeInput = func() { _ = f.Close() } // it was only read
	}
	lines := newLineReader(name, in)
	left := c.Count
	return func() (*cloudEvent, error) {
		if c.Count > 0 && left == 0 {
			return nil, io.EOF
		}
		left--
		return lines.next(c)
	}, closeInput, nil
}

// repeat yields Count events made of the flags.
func (c *SendConfig) repeat() func() (*cloudEvent, error) {
	count, n := max(1, c.Count), 0
	return func() (*cloudEvent, error) {
		if n == count {
			return nil, io.EOF
		}
		n++
		id := c.ID
		switch {
		case id == "":
			id = newID()
		case count > 1:
			id = fmt.Sprintf("%s-%d", id, n)
		}
		return &cloudEvent{
			id: id, time: time.Now().UTC().Format(time.RFC3339Nano),
			contentType: c.contentType(), data: c.Data,
		}, nil
	}
}

func (c *SendConfig) contentType() string {
	if c.ContentType != "" {
		return c.ContentType
	}
	return "application/json"
}

// newID returns a UUIDv7, which is in the order of time.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// ReadData returns the payload that --data names: @file, or the text itself. A
// JSON payload has to be valid.
func ReadData(text, contentType string) ([]byte, error) {
	data := []byte(text)
	if len(text) > 0 && text[0] == '@' {
		var err error
		if data, err = os.ReadFile(text[1:]); err != nil {
			return nil, fmt.Errorf("reading --data: %w", err)
		}
	}
	if (contentType == "" || isJSON(contentType)) && !json.Valid(data) {
		return nil, usagef("--data is not valid JSON; quote it for the shell, or say what it is with --content-type")
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}
