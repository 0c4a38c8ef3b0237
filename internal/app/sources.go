package app

import (
	"context"
	"fmt"
	"regexp"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"

	"posthorn/consumer"
	"posthorn/internal/config"
)

// withOwnEvents adds our operational events to the sources, so that tenants can
// subscribe to them. One that names the topic itself is left as it is, and a line
// without sources matches nothing.
func withOwnEvents(c *config.Config) *config.Config {
	if !c.Lifecycle.Events || len(c.Sources) == 0 || c.SourceOf(c.EventsTopic()) != nil {
		return c
	}
	with := *c
	with.Sources = append(slices.Clone(c.Sources), config.Source{Name: ownEvents, Topics: []string{c.EventsTopic()},
		Format: config.FormatCloudEvents, Start: config.Start{At: config.StartEarliest}, MaxSize: config.DefaultMaxSize})
	return &with
}

// ownEvents is the name of the source that withOwnEvents adds.
const ownEvents = "posthorn"

// sourceName is the label of a source's metrics.
func (l *Line) sourceName(topic string) string {
	if s := l.cfg.SourceOf(topic); s != nil {
		return s.Name
	}
	return "none"
}

// sourceTopics returns the regular expressions of the sources' topics, and
// where those begin that nobody has read yet.
func (l *Line) sourceTopics(ctx context.Context) ([]string, map[string]map[int32]int64, error) {
	adm := kadm.NewClient(l.control)
	listed, err := adm.ListTopics(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("listing the topics of the sources: %w", err)
	}
	var starts []consumer.Start
	for _, name := range listed.Names() {
		if s := l.cfg.SourceOf(name); s != nil {
			starts = append(starts, startOf(name, s.Start))
		}
	}
	for i := range l.cfg.Sources {
		for _, t := range l.cfg.Sources[i].Topics {
			if !listed.Has(t) {
				l.log.Warn("a source's topic doesn't exist yet", "source", l.cfg.Sources[i].Name, "topic", t)
			}
		}
	}
	resolved, err := consumer.CommitStarts(ctx, adm, l.cfg.Prefix+".match", starts, l.log)
	if err != nil {
		return nil, nil, err
	}

	var patterns []string
	for i := range l.cfg.Sources {
		s := &l.cfg.Sources[i]
		for _, t := range s.Topics {
			patterns = append(patterns, "^"+regexp.QuoteMeta(t)+"$")
		}
		if s.Pattern != "" {
			patterns = append(patterns, "^(?:"+s.Pattern+")$")
		}
	}
	return slices.Compact(patterns), resolved, nil
}

// notSources are regular expressions of the topics that no pattern of a source
// may match: Kafka's own and ours. The one of ours that may be a source by name
// is left out of them then; RE2 knows no exceptions, so ours are listed.
func (l *Line) notSources() []string {
	own := regexp.QuoteMeta(l.cfg.Prefix + ".")
	if l.cfg.SourceOf(l.cfg.EventsTopic()) == nil {
		return []string{"^__", "^" + own}
	}
	return []string{"^__", "^" + own + `(?:registry|fanout|deliveries|retry\..*|attempts|dead|invalid|audit|replays)$`}
}

func startOf(topic string, s config.Start) consumer.Start {
	return consumer.Start{Topic: topic, Earliest: s.At == config.StartEarliest, Latest: s.At == config.StartLatest, At: s.Time}
}
