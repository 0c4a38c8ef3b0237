package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// transactionTimeout is how long the broker lets a transaction of a writer
// that died stay open. Readers see nothing behind it until then, or until the
// next writer comes.
const transactionTimeout = 10 * time.Second

// lock is the transactional producer of a writer.
type lock struct {
	cfg *WriterConfig
	log *slog.Logger
	cl  *kgo.Client // nil until needed, and after any failure
	// doubt is set while a commit's outcome is unknown.
	doubt *watch
}

// errVisible means that a change is committed, but not in this store.
var errVisible = errors.New("the change is made, but this process could not read it back")

// commit tries until the changes are committed or their outcome is final, and
// answers all of them.
func (l *lock) commit(stop <-chan struct{}, batch []*request) {
	ctx, cancel := context.WithTimeout(context.Background(), l.cfg.Patience)
	defer cancel()
	go func() {
		// A stop lets the running try finish, but not for long.
		select {
		case <-stop:
			select {
			case <-time.After(2 * time.Second):
				cancel()
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
	}()
	// Rivals that fenced each other at once must not do so again at once.
	pause := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(30*time.Millisecond), backoff.WithMaxInterval(time.Second), backoff.WithMaxElapsedTime(0))
	for {
		err := l.try(ctx, batch)
		if err == nil {
			for _, r := range batch {
				r.done <- r.err
			}
			return
		}
		// Also after a commit that couldn't be read back: taking the lock anew
		// makes the broker finish it before the next change is decided.
		l.drop()
		if fenced(err) {
			if l.cfg.Count != nil {
				l.cfg.Count(IncidentFenced)
			}
			l.log.Debug("another registry writer was faster, trying again", "error", err)
		} else {
			l.log.Warn("writing registry failed", "error", err)
		}
		if final := l.final(ctx, stop, err); final != nil {
			l.doubt = nil
			for _, r := range batch {
				r.done <- final
			}
			return
		}
		select {
		case <-time.After(pause.NextBackOff()):
		case <-ctx.Done():
		case <-stop:
		}
	}
}

// final turns the error of a try into the answer, or nil to try again.
func (l *lock) final(ctx context.Context, stop <-chan struct{}, err error) error {
	stopped := false
	select {
	case <-stop:
		stopped = true
	default:
	}
	switch {
	case errors.Is(err, errVisible), errors.Is(err, ErrUnknownOutcome):
		return err
	case ctx.Err() == nil && !stopped && !hopeless(err):
		return nil
	case l.doubt != nil:
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	case stopped:
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// fenced reports whether a rival has taken the lock.
func fenced(err error) bool {
	for _, e := range [...]error{
		kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.InvalidTxnState, kerr.InvalidProducerIDMapping,
		kerr.OperationNotAttempted, kerr.TransactionAbortable, kerr.ConcurrentTransactions,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// hopeless reports whether trying again can't help until someone changes the
// cluster's configuration.
func hopeless(err error) bool {
	for _, e := range [...]error{
		kerr.TransactionalIDAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.SaslAuthenticationFailed, kerr.InvalidTransactionTimeout, kerr.MessageTooLarge, ErrStopped,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (l *lock) drop() {
	if l.cl != nil {
		l.cl.Close()
		l.cl = nil
	}
}

// try makes one transaction. Each request's err says what its function
// answered; the result says whether these answers stand.
func (l *lock) try(ctx context.Context, batch []*request) error {
	f := l.cfg.Follower
	if l.cl == nil {
		cl, err := newLockClient(l.cfg)
		if err != nil {
			return err
		}
		l.cl = cl
	}
	if err := l.cl.BeginTransaction(); err != nil {
		return fmt.Errorf("beginning transaction: %w", err)
	}
	// Only now: beginning may have decided to load the producer ID anew, and
	// it must not happen after the registry has been read.
	if _, _, err := l.cl.ProducerID(ctx); err != nil {
		return fmt.Errorf("taking the write lock: %w", err)
	}
	// Whatever an earlier holder of the lock left open has been aborted or
	// completed by that, our own lost commit too.
	if err := f.readToEnd(ctx); err != nil {
		return fmt.Errorf("reading to the stable end: %w", err)
	}
	if l.doubt != nil {
		made := f.sawWatched(l.doubt)
		l.doubt = nil
		if made {
			// The answers of that try stand; a producer that can't end its
			// empty transaction is of no use to the next one.
			if err := l.abort(ctx); err != nil {
				l.drop()
			}
			return nil
		}
	}

	records, appended := l.decide(batch)
	if len(records)+len(appended) == 0 {
		return l.abort(ctx)
	}
	// A try that fails here leaves an open transaction, which is aborted at
	// once if that is possible, and by the next holder of the lock otherwise.
	made := append(appended, records...)
	if err := l.cl.ProduceSync(ctx, made...).FirstErr(); err != nil {
		return errors.Join(fmt.Errorf("producing: %w", err), l.abort(ctx))
	}
	if err := l.awaitLoaded(ctx, made); err != nil {
		return errors.Join(err, l.abort(ctx))
	}
	if len(records) == 0 {
		// Nothing to read back. If the answer is lost this is done again, and
		// what was appended may be there twice.
		if err := l.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
			return fmt.Errorf("committing: %w", err)
		}
		return nil
	}
	first, last := records[0].Offset, records[len(records)-1].Offset
	round := f.place().round
	watched := f.watch(first)
	l.doubt = watched
	if err := l.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	l.doubt = nil
	err := f.waitPosition(ctx, round, last+1)
	restarted := errors.Is(err, errRestarted)
	if restarted {
		err = f.readToEnd(ctx)
	}
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errVisible, err)
	case f.sawWatched(watched):
		return nil
	case restarted: // what came later may have taken its place in the compacted topic
		return fmt.Errorf("%w: the registry was read anew, and the record isn't in it", ErrUnknownOutcome)
	}
	return errors.New("committing: the transaction was aborted")
}

// awaitLoaded waits until the client knows the partitions that it has just produced
// to. kgo (v1.22.2, v1.22.3) publishes a new topic's partitions after it has begun to
// produce to them. A transaction that is ended in between finds no partition that
// was produced to, and is aborted where it was to be committed, without an error.
func (l *lock) awaitLoaded(ctx context.Context, made []*kgo.Record) error {
	for _, r := range made {
		for {
			if leader, _, err := l.cl.PartitionLeader(r.Topic, r.Partition); leader >= 0 || err != nil {
				break
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return fmt.Errorf("waiting for the partitions of topic %s: %w", r.Topic, ctx.Err())
			}
		}
	}
	return nil
}

// decide runs the functions and collects what they staged, and what they
// appended to other topics.
func (l *lock) decide(batch []*request) (records, appended []*kgo.Record) {
	all := make(map[string]staged)
	var order []string
	for _, r := range batch {
		tx := newTx(l.cfg.Follower.store, l.cfg.Check, time.Now().UTC().Truncate(time.Millisecond), all)
		if r.err = r.run(tx); r.err != nil {
			continue
		}
		for _, key := range tx.order {
			if _, ok := all[key]; !ok {
				order = append(order, key)
			}
			all[key] = tx.layers[1][key]
		}
		appended = append(appended, tx.appended...)
	}
	records = make([]*kgo.Record, len(order))
	for i, key := range order {
		records[i] = &kgo.Record{Topic: l.cfg.Topic, Key: []byte(key), Value: all[key].value}
	}
	return records, appended
}

// abort ends a transaction without its records.
func (l *lock) abort(ctx context.Context) error {
	if err := l.cl.AbortBufferedRecords(ctx); err != nil {
		return fmt.Errorf("aborting: %w", err)
	}
	if err := l.cl.EndTransaction(ctx, kgo.TryAbort); err != nil {
		return fmt.Errorf("aborting: %w", err)
	}
	return nil
}

func newLockClient(cfg *WriterConfig) (*kgo.Client, error) {
	opts := append([]kgo.Opt{}, cfg.Opts...)
	opts = append(opts,
		kgo.TransactionalID(cfg.Topic),
		kgo.TransactionTimeout(transactionTimeout),
		// The registry has one partition; what is appended elsewhere goes by its key.
		kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerLinger(0),
		kgo.RecordDeliveryTimeout(transactionTimeout),
	)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("creating registry writer's client: %w", err)
	}
	return cl, nil
}

// watch notes from now on whether the record at an offset is taken in.
func (f *Follower) watch(offset int64) *watch {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched = &watch{topicID: f.at.topicID, offset: offset}
	return f.watched
}

func (f *Follower) sawWatched(w *watch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return w.seen
}
