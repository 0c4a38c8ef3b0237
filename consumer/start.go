package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Start says where a topic that was never read begins.
type Start struct {
	Topic string
	// Earliest, Latest or, if both are false, the first record at or after At.
	Earliest, Latest bool
	At               time.Time
}

// CommitStarts resolves, for each topic that the group has no commit of, where
// it begins, and commits that for every partition, so that the answer stays the
// same whatever is produced meanwhile. It has to run before the group's first
// member polls. Topics that the group knows are left alone: their later
// partitions start at the beginning.
//
// Kafka lets nobody but a member commit for a group that has members. Then
// (another process runs already, and a topic is new in our configuration) the
// answer is returned for [Config.Starts], and the member that gets a partition
// commits it.
func CommitStarts(ctx context.Context, adm *kadm.Client, group string, starts []Start, log *slog.Logger) (map[string]map[int32]int64, error) {
	var committed kadm.OffsetResponses
	err := untilCoordinated(ctx, func() (err error) {
		committed, err = adm.FetchOffsets(ctx, group)
		return err
	})
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("resolving where sources start: fetching the commits of group %s: %w", group, err)
	}
	known := make(map[string]bool)
	committed.Each(func(o kadm.OffsetResponse) { known[o.Topic] = known[o.Topic] || o.At >= 0 })

	var commits kadm.Offsets
	resolved := make(map[string]map[int32]int64)
	for _, s := range starts {
		if known[s.Topic] {
			continue
		}
		var listed kadm.ListedOffsets
		switch {
		case s.Earliest:
			listed, err = adm.ListStartOffsets(ctx, s.Topic)
		case s.Latest:
			listed, err = adm.ListEndOffsets(ctx, s.Topic)
		default:
			listed, err = adm.ListOffsetsAfterMilli(ctx, s.At.UnixMilli(), s.Topic)
		}
		if err == nil {
			err = listed.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("resolving where %s starts: %w", s.Topic, err)
		}
		listed.Each(func(o kadm.ListedOffset) {
			commits.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: o.Offset, LeaderEpoch: -1,
				Metadata: freshMetadata(o.Offset)})
			if resolved[o.Topic] == nil {
				resolved[o.Topic] = make(map[int32]int64)
			}
			resolved[o.Topic][o.Partition] = o.Offset
			log.Info("source starts", "topic", o.Topic, "partition", o.Partition, "offset", o.Offset)
		})
	}
	if len(commits) == 0 {
		return nil, nil
	}
	err = untilCoordinated(ctx, func() error {
		answer, err := adm.CommitOffsets(ctx, group, commits)
		if err == nil {
			err = answer.Error()
		}
		return err
	})
	if errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) {
		log.Info("the group is in use: its members commit where the sources start", "group", group)
		return resolved, nil
	}
	if err != nil {
		return nil, fmt.Errorf("committing where sources start: %w", err)
	}
	return resolved, nil
}

const (
	coordinatedWithin = 30 * time.Second
	coordinatedEvery  = 250 * time.Millisecond
)

// untilCoordinated repeats a request while the group has no coordinator that
// answers: a new cluster makes the topic of offsets when it is first asked for
// one, and a broker that has just started still loads it. kgo's own retries of
// this end after about a second.
func untilCoordinated(ctx context.Context, request func() error) error {
	late := time.After(coordinatedWithin)
	for {
		err := request()
		if !errors.Is(err, kerr.CoordinatorNotAvailable) && !errors.Is(err, kerr.CoordinatorLoadInProgress) && !errors.Is(err, kerr.NotCoordinator) {
			return err
		}
		select {
		case <-time.After(coordinatedEvery):
		case <-late:
			return err
		case <-ctx.Done():
			return err
		}
	}
}
