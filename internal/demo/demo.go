package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"posthorn/internal/app"
	"posthorn/internal/config"
)

// DefaultDataDir is where a demo keeps its data unless told otherwise.
const DefaultDataDir = ".cache/demo"

// Options of a demo.
type Options struct {
	// DataDir is emptied at the start, if an earlier demo made it;
	// DefaultDataDir when empty.
	DataDir string
	// Out is the screen. Lines are at most 100 columns wide but where they
	// name long paths.
	Out io.Writer
	// Command is how the binary is called in the commands that are printed;
	// "bin/posthorn" when empty.
	Command string
	Version string
	// Exit ends the demo after its last line; otherwise it stays up until its
	// context ends.
	Exit bool
	// Events to send, 1,000 when 0, and how many of them per second: 250 when 0.
	Events int
	Rate   float64
	// Deadline is how long all deliveries may take, counted from the first
	// event: 90 s when 0. What is not settled by then is lost.
	Deadline time.Duration
	// KafkaPort, AdminPort and ClickHousePort on 127.0.0.1; 0 takes a free one.
	KafkaPort, AdminPort, ClickHousePort int
}

// Validate reports the first mistake.
func (o *Options) Validate() error {
	switch {
	case o.Out == nil:
		return errors.New("starting the demo: Out is missing")
	case o.Events < 0 || o.Events > 1_000_000:
		return fmt.Errorf("starting the demo: Events is %d, want 1 to 1,000,000, or 0 for 1,000", o.Events)
	case o.Rate < 0 || o.Deadline < 0:
		return errors.New("starting the demo: Rate and Deadline can't be negative")
	}
	return nil
}

func (o *Options) withDefaults() {
	fill(&o.DataDir, DefaultDataDir)
	fill(&o.Command, "bin/posthorn")
	fill(&o.Events, 1000)
	fill(&o.Rate, 250)
	fill(&o.Deadline, 90*time.Second)
}

func fill[T comparable](v *T, def T) {
	if *v == *new(T) {
		*v = def
	}
}

// The demo's own ladder: seconds, where the default has minutes.
var (
	tiers    = []time.Duration{time.Second, 2 * time.Second, 4 * time.Second}
	schedule = []time.Duration{2 * time.Second, 4 * time.Second}
	loopback = netip.MustParsePrefix("127.0.0.0/8")
)

// Run runs the demo. The error is nil after a demo that lost nothing and was
// ended by its context after its last line, or by Options.Exit; it is a
// [*LossError] if anything was lost.
func Run(ctx context.Context, o Options) error {
	_, err := run(ctx, o)
	return err
}

// show is a demo that runs.
type show struct {
	Options
	report    *report
	log       *slog.Logger
	receiver  *receiver
	addresses app.Addresses
	lineEnded chan error // what the line ended with, once
	stopLine  context.CancelFunc
}

func run(ctx context.Context, o Options) (result Result, err error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	o.withDefaults()
	marker, err := prepareDir(ctx, o.DataDir)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, marker.Close()) }()
	logPath := filepath.Join(o.DataDir, "demo.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return Result{}, fmt.Errorf("opening the demo's log: %w", err)
	}
	defer func() { err = errors.Join(err, logFile.Close()) }()
	s := &show{Options: o, report: &report{out: o.Out}, log: slog.New(slog.NewTextHandler(logFile, nil))}

	caFile := filepath.Join(o.DataDir, "receiver-ca.pem")
	if s.receiver, err = startReceiver(ctx, caFile, s.log); err != nil {
		return Result{}, err
	}
	defer s.receiver.close()
	if err := s.startLine(ctx, caFile); err != nil {
		return Result{}, err
	}
	defer func() {
		// First the hanging endpoint answers, else the line's drain would wait
		// for it.
		s.receiver.release()
		err = errors.Join(err, s.endLine())
	}()
	s.report.line(s.addresses, o.DataDir, logPath)

	endpoints, err := register(ctx, s.addresses.Admin, s.receiver)
	if err != nil {
		return Result{}, err
	}
	s.report.endpoints(endpoints)
	score := newScore(plan(o.Events, endpoints))
	if err := s.receiver.serve(endpoints, score); err != nil {
		return Result{}, err
	}
	if result, err = s.play(ctx, score); err != nil {
		return result, err
	}
	account, err := s.account(ctx)
	if err != nil {
		return result, err
	}
	s.report.account(account, endpoints)
	s.report.result(result, score.open())
	if o.Exit {
		return result, errors.Join(result.Err(), account.Err())
	}
	if err := s.report.next(ctx, o.Command, s.addresses); err != nil {
		return result, err
	}
	score.tellOfMore(s.report.arrived)
	select {
	case <-ctx.Done():
	case err := <-s.lineEnded:
		s.lineEnded <- nil
		return result, s.endedEarly(err)
	}
	return result, errors.Join(result.Err(), account.Err())
}

// startLine starts a development line and waits until it runs.
func (s *show) startLine(ctx context.Context, caFile string) error {
	cfg := config.Default()
	cfg.Delivery.Tiers, cfg.Delivery.Schedule = tiers, schedule
	cfg.Delivery.AllowCIDR = []netip.Prefix{loopback}
	cfg.Delivery.CAFile = caFile
	cfg.ClickHouse.Grace = grace
	if err := cfg.Validate(); err != nil {
		return err
	}
	lineCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopLine, s.lineEnded = stop, make(chan error, 1)
	running := make(chan app.Addresses, 1)
	go func() {
		s.lineEnded <- app.Dev(lineCtx, app.DevOptions{
			Options: app.Options{Config: cfg, Log: s.log, Version: s.Version},
			DataDir: s.DataDir, KafkaPort: s.KafkaPort, AdminPort: s.AdminPort, ClickHousePort: s.ClickHousePort,
			Running: func(a app.Addresses) { running <- a },
		})
	}()
	select {
	case s.addresses = <-running:
		return nil
	case err := <-s.lineEnded:
		stop()
		return s.endedEarly(err)
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), s.endLine())
	}
}

func (s *show) endedEarly(err error) error {
	if err == nil {
		err = errors.New("it stopped by itself")
	}
	return fmt.Errorf("running the demo's line: %w", err)
}

// endLine stops the line in order.
func (s *show) endLine() error {
	s.stopLine()
	if err := <-s.lineEnded; err != nil {
		return fmt.Errorf("stopping the demo's line: %w", err)
	}
	return nil
}

// play sends the events and follows the deliveries until every one of them is
// settled for good, or the deadline.
func (s *show) play(ctx context.Context, score *score) (Result, error) {
	ledger, err := followSettlements(s.addresses.Kafka, score)
	if err != nil {
		return Result{}, err
	}
	defer ledger.close()
	s.report.sending(s.Events, len(score.pairs), s.Rate)

	pctx, stopProducing := context.WithCancel(ctx)
	produced := make(chan error, 1)
	go func() { produced <- produce(pctx, s.addresses.Kafka, score, s.Rate) }()
	producing := true
	defer func() {
		stopProducing()
		if producing {
			<-produced //nolint:errcheck // why the demo ends early is known already
		}
	}()

	began := time.Now()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	deadline := time.NewTimer(s.Deadline)
	defer deadline.Stop()
	for {
		select {
		case <-ctx.Done():
			return Result{}, context.Cause(ctx)
		case err := <-s.lineEnded:
			s.lineEnded <- nil
			return Result{}, s.endedEarly(err)
		case err := <-ledger.failed:
			return Result{}, err
		case err := <-produced:
			producing = false
			if err != nil {
				return Result{}, err
			}
		case <-second.C:
			s.report.progress(time.Since(began), score.progress())
		case <-score.changed:
		case <-deadline.C:
			return s.finish(score, began), nil
		}
		if producing {
			continue
		}
		p := score.progress()
		if p.openElsewhere == 0 && !s.receiver.released() {
			s.report.progress(time.Since(began), p)
			s.report.releasing(p)
			score.stopMeasuring()
			s.receiver.release()
		}
		if p.open == 0 {
			return s.finish(score, began), nil
		}
	}
}

func (s *show) finish(score *score, began time.Time) Result {
	s.report.progress(time.Since(began), score.progress())
	s.report.samples(score.samples())
	s.report.sick(score.illness())
	return score.result()
}
