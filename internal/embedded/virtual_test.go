package embedded

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestAVirtualBrokerLivesInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := StartVirtual(t, kfake.SeedTopics(1, "t"))
		cl, err := kgo.NewClient(append(v.ClientOpts(), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.DefaultProduceTopic("t"))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		begun := time.Now()
		time.AfterFunc(21*time.Minute, func() {
			cl.Produce(t.Context(), kgo.StringRecord("late"), nil)
		})
		var got *kgo.Record
		for got == nil {
			fs := cl.PollFetches(t.Context())
			if err := fs.Err(); err != nil {
				t.Fatal(err)
			}
			for r := range fs.RecordsAll() {
				got = r
			}
		}
		if waited := time.Since(begun); string(got.Value) != "late" || waited < 21*time.Minute || waited > 22*time.Minute {
			t.Errorf("got %q after %v", got.Value, waited)
		}
	})
}
