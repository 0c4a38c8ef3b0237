//go:build integration

package integration

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"posthorn/consumer/watermark"
	"posthorn/internal/kafkatest"
)

var ownTopics = []string{"registry", "fanout", "deliveries", "retry.1s", "retry.2s", "retry.4s", "attempts", "dead", "events", "invalid", "audit", "replays"}

// refuses runs the line on topics it has to refuse, and wants these words in
// what it says.
func (w *world) refuses(words ...string) {
	w.t.Helper()
	p := launch(w.t, nil, "run", "--config", w.config)
	p.exits(1)
	said := p.lines.String()
	for _, word := range words {
		if !strings.Contains(said, word) {
			w.t.Errorf("the refusal doesn't speak of %q:\n%s", word, said)
		}
	}
}

func (w *world) says(code int, words []string, args ...string) {
	w.t.Helper()
	got, out := command(w.t, append(args, "--config", w.config)...)
	if got != code {
		w.t.Errorf("posthorn %v: exit code %d, want %d\n%s", args, got, code, out)
	}
	for _, word := range words {
		if !strings.Contains(out, word) {
			w.t.Errorf("posthorn %v doesn't speak of %q:\n%s", args, word, out)
		}
	}
}

func TestTheLineRefusesToStartOnTopicsThatWouldLoseDeliveriesAndListsThemAll(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	w := newWorld(t, broker.Addrs(), setup{prefix: "topics"})
	own := func(name string) string { return w.prefix + "." + name }
	all := make([]string, 0, len(ownTopics))
	for _, name := range ownTopics {
		all = append(all, own(name)+": there is no such topic")
	}
	w.says(1, all, "topics", "check")
	w.refuses(all...)

	w.says(0, []string{fmt.Sprintf("%d changes", 2*len(ownTopics))}, "topics", "apply") // each is created and its partitions recorded
	asConfigured := []string{fmt.Sprintf("all %d topics are as configured", len(ownTopics))}
	w.says(0, asConfigured, "topics", "apply")
	w.says(0, asConfigured, "topics", "check")
	w.run().terminate()

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.deleteTopics(ctx, own("retry.2s"), own("dead"))
	w.create(own("retry.2s"), 5)
	minute := "60000"
	if _, err := w.adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &minute}}, own("retry.4s")); err != nil {
		t.Fatal(err)
	}
	poll(t, 30*time.Second, "the broker to know of the retention", func() bool {
		described, err := w.adm.DescribeTopicConfigs(ctx, own("retry.4s"))
		return err == nil && slices.ContainsFunc(described[0].Configs, func(c kadm.Config) bool { return c.Key == "retention.ms" && *c.Value == minute })
	})
	problems := []string{own("dead") + ": there is no such topic", own("retry.2s") + ": has 5 partitions", own("retry.4s") + ": "}
	w.says(1, problems, "topics", "check")
	w.refuses(problems...)
}

// deleteTopics returns when the broker no longer lists them.
func (w *world) deleteTopics(ctx context.Context, names ...string) {
	w.t.Helper()
	if _, err := w.adm.DeleteTopics(ctx, names...); err != nil {
		w.t.Fatal(err)
	}
	for {
		listed, err := w.adm.ListTopics(kadm.WithAuthorizedOps(ctx))
		if err != nil {
			w.t.Fatal(err)
		}
		if !slices.ContainsFunc(names, listed.Has) {
			return
		}
	}
}

func TestTheBrokerTakesCommitMetadataUpToItsLimitAndNoMore(t *testing.T) {
	broker := kafkatest.Shared(t)
	t.Parallel()
	w := newWorld(t, broker.Addrs(), setup{prefix: "metadata"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	const base = 1 << 40 // offsets of a partition with a long life
	tracker := watermark.NewTracker(base, nil)
	for i := range int64(100_000) {
		if ticket := tracker.Track(base + i); i%7 != 0 {
			ticket.Done()
		}
	}
	snap := tracker.Snapshot(watermark.RunsLimit)
	text := watermark.EncodeMetadata(snap, 1<<40)
	commit := func(metadata string) error {
		var offsets kadm.Offsets
		offsets.Add(kadm.Offset{Topic: w.topic, Partition: 0, At: snap.Watermark, LeaderEpoch: -1, Metadata: metadata})
		answer, err := w.adm.CommitOffsets(ctx, w.prefix+".scratch", offsets)
		return errors.Join(err, answer.Error())
	}
	if err := commit(text); err != nil {
		t.Errorf("committing %d characters: %v", len(text), err)
	}
	got, err := w.adm.FetchOffsets(ctx, w.prefix+".scratch")
	if err != nil {
		t.Fatal(err)
	}
	o, _ := got.Lookup(w.topic, 0)
	_, finished, err := watermark.DecodeMetadata(o.Metadata, o.At)
	if err != nil || !slices.Equal(finished, snap.Finished[:len(finished)]) || len(finished) < 1000 {
		t.Errorf("%d runs came back, %v", len(finished), err)
	}
	t.Logf("%d characters hold %d of %d runs", len(text), len(finished), len(snap.Finished))
	if len(text) > watermark.MetadataLimit {
		t.Errorf("%d characters, want %d or less", len(text), watermark.MetadataLimit)
	}
	if err := commit(strings.Repeat("x", watermark.MetadataLimit)); err != nil {
		t.Errorf("committing %d characters: %v", watermark.MetadataLimit, err)
	}
	if err := commit(strings.Repeat("x", watermark.MetadataLimit+1)); !errors.Is(err, kerr.OffsetMetadataTooLarge) {
		t.Errorf("committing %d characters: %v, want it refused", watermark.MetadataLimit+1, err)
	}
}
