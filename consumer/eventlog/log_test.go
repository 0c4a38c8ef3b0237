package eventlog

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"posthorn/internal/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func client(t *testing.T, b *embedded.Virtual, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append(b.ClientOpts(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestAStretchIsReadWholeWhateverLiesInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := embedded.StartVirtual(t, kfake.SeedTopics(2, "orders"))
		cl := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		begun := time.Now().Truncate(time.Millisecond)
		put := func(cl *kgo.Client, p int32, value string, at time.Time) {
			t.Helper()
			r := &kgo.Record{Topic: "orders", Partition: p, Value: []byte(value), Timestamp: at}
			if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 20 {
			put(cl, int32(i%2), fmt.Sprint(i), begun.Add(time.Duration(i)*time.Second))
		}
		tx := client(t, b, kgo.TransactionalID("tx"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for _, how := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort} {
			if err := tx.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			put(tx, 0, map[kgo.TransactionEndTry]string{kgo.TryCommit: "committed", kgo.TryAbort: "aborted"}[how], begun.Add(30*time.Second))
			if err := tx.EndTransaction(context.Background(), how); err != nil {
				t.Fatal(err)
			}
		}
		// The log of partition 0 ends in markers: nothing is to be seen there.
		l := New(cl)
		read := func(since, until time.Time) (values []string) {
			t.Helper()
			walk, err := l.Stretches(context.Background(), []string{"orders"}, since, until)
			if err != nil {
				t.Fatal(err)
			}
			for i := walk.Next(); i >= 0; i = walk.Next() {
				records, next, err := l.Fetch(context.Background(), walk[i].Topic, walk[i].Partition, walk[i].At, 1<<10)
				if err != nil {
					t.Fatal(err)
				}
				last := time.Time{}
				for _, r := range records {
					if r.Offset < walk[i].To {
						values = append(values, string(r.Value))
					}
					last = r.Timestamp
				}
				walk.Read(i, next, last)
			}
			total, finished, lost := walk.Progress()
			if total != finished || lost != 0 {
				t.Errorf("%d of %d offsets are finished, %d lost", finished, total, lost)
			}
			return values
		}
		if all := read(time.Time{}, time.Time{}); len(all) != 21 {
			t.Errorf("read %q", all)
		}
		if late := read(begun.Add(15*time.Second), time.Time{}); len(late) != 6 { // 15 to 19, and the committed one
			t.Errorf("read %q", late)
		}
		if none := read(begun.Add(time.Hour), time.Time{}); len(none) != 0 {
			t.Errorf("read %q", none)
		}
		if early := read(time.Time{}, begun.Add(-Slack).Add(5*time.Second)); len(early) != 5 { // as far as the slack reaches
			t.Errorf("read %q", early)
		}

		var cut kadm.Offsets
		cut.Add(kadm.Offset{Topic: "orders", Partition: 1, At: 4})
		if _, err := kadm.NewClient(cl).DeleteRecords(context.Background(), cut); err != nil {
			t.Fatal(err)
		}
		_, _, err := l.Fetch(context.Background(), "orders", 1, 2, 1<<10)
		if gone, ok := errors.AsType[*OutOfRangeError](err); !ok || gone.LogStart != 4 {
			t.Errorf("what the log dropped: %v", err)
		}
		if _, _, err := l.Fetch(context.Background(), "orders", 7, 0, 1<<10); err == nil {
			t.Error("a partition that isn't there is read")
		}
	})
}

func TestAWalkReadsWhatIsFurthestBehindAndCountsWhatIsLost(t *testing.T) {
	w := Walk{{Topic: "a", From: 10, To: 20, At: 10}, {Topic: "b", From: 0, To: 5, At: 0}}
	t0 := time.Unix(1000, 0)
	if w.Next() != 0 {
		t.Fatal("nothing was read yet")
	}
	w.Read(0, 15, t0.Add(time.Minute))
	if w.Next() != 1 {
		t.Error("b is behind")
	}
	w.Read(1, 3, t0)
	if w.Next() != 1 {
		t.Error("b is still behind")
	}
	w.Read(1, 9, t0) // beyond its end
	if w.Next() != 0 {
		t.Error("b is finished")
	}
	w.Read(0, 12, t0) // nothing goes back
	w.Skip(0, 18)
	total, finished, lost := w.Progress()
	if total != 15 || finished != 13 || lost != 3 || w[0].At != 18 {
		t.Errorf("%d of %d, %d lost, at %d", finished, total, lost, w[0].At)
	}
	w.Skip(0, 100)
	if w.Next() != -1 {
		t.Error("all are finished")
	}
}
