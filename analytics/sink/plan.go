package sink

import (
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

// planMark begins the commit metadata of a sink's partition and carries its
// version. Metadata without it is no plan: someone reset the group by hand.
const planMark = "ph-sink1:"

// plan is the range of offsets of the batch that is to be inserted next, both
// included. It never changes once it may have been written.
type plan struct{ first, last int64 }

// metadata writes the plan as it stands beside the committed offset, which is
// its first: "ph-sink1:<last>". Nothing planned is the mark alone.
func (p *plan) metadata() string {
	if p == nil {
		return planMark
	}
	return planMark + strconv.FormatInt(p.last, 10)
}

// parsePlan reads what [plan.metadata] wrote beside a committed offset. It
// returns nil where nothing was planned, or nothing that can be read.
func parsePlan(metadata string, committed int64) *plan {
	rest, ok := strings.CutPrefix(metadata, planMark)
	if !ok {
		return nil
	}
	last, err := strconv.ParseInt(rest, 10, 64)
	if err != nil || last < committed {
		return nil
	}
	return &plan{committed, last}
}

// token is the deduplication token of the plan's inserts. It holds the topic's
// ID: a topic that was made anew begins at offset 0 again, and its batches would
// be dropped as those of the old one.
func (p *plan) token(topic string, id kadm.TopicID, partition int32) string {
	b := make([]byte, 0, len(topic)+2*len(id)+48)
	b = append(b, topic...)
	b = append(b, ':')
	if id != (kadm.TopicID{}) { // brokers give none before Kafka 2.8
		b = hex.AppendEncode(b, id[:])
		b = append(b, ':')
	}
	b = strconv.AppendInt(b, int64(partition), 10)
	b = append(b, ':')
	b = strconv.AppendInt(b, p.first, 10)
	b = append(b, '-')
	return string(strconv.AppendInt(b, p.last, 10))
}
