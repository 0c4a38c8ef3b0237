package watermark

import (
	"fmt"
	"strconv"
	"strings"
)

// Loss is what a commit's metadata says of a partition that was halted: the log
// no longer had what was to be read next. Whoever takes the partition over has
// to ask a person first, also when the log has grown since and looks whole.
type Loss struct {
	// ReadTo is the offset that was to be read next.
	ReadTo int64
	// CutTo is where the log ended when that was found. What lies there and
	// above are other records than those that were finished.
	CutTo int64
}

// lossMark begins the metadata of a halted partition; the ordinary metadata
// follows. Programs that don't know it take the commit for foreign.
const lossMark = "ph1!"

// LossRunsLimit is [RunsLimit] less the room that a [Loss] takes.
const LossRunsLimit = RunsLimit - (len(lossMark)+2*len("9223372036854775807")+len("/!")+3)/4*3

// Mark writes the loss in front of a commit's metadata.
func (l Loss) Mark(metadata string) string {
	return fmt.Sprintf("%s%d/%d!%s", lossMark, max(l.ReadTo, 0), max(l.CutTo, 0), metadata)
}

// UnmarkLoss takes the loss off a commit's metadata, if there is one.
func UnmarkLoss(metadata string) (l Loss, rest string, ok bool) {
	text, marked := strings.CutPrefix(metadata, lossMark)
	numbers, after, closed := strings.Cut(text, "!")
	readTo, cutTo, two := strings.Cut(numbers, "/")
	if !marked || !closed || !two {
		return Loss{}, metadata, false
	}
	r, err := strconv.ParseUint(readTo, 10, 63)
	if err != nil {
		return Loss{}, metadata, false
	}
	c, err := strconv.ParseUint(cutTo, 10, 63)
	if err != nil {
		return Loss{}, metadata, false
	}
	return Loss{ReadTo: int64(r), CutTo: int64(c)}, after, true
}

// Below returns the snapshot of a log that was cut: what was finished there and
// above counts no more.
func (s Snapshot) Below(cut int64) Snapshot {
	s.Watermark = min(s.Watermark, cut)
	for i, run := range s.Finished {
		if run.To > cut {
			kept := append(Runs(nil), s.Finished[:i]...)
			if run.From < cut {
				kept = append(kept, Run{run.From, cut})
			}
			s.Finished = kept
			break
		}
	}
	return s
}
