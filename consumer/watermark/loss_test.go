package watermark

import (
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestALossIsReadBackAsItWasWrittenAndLeavesTheMetadataAsItWas(t *testing.T) {
	for _, l := range []Loss{{}, {ReadTo: 10, CutTo: 5}, {ReadTo: math.MaxInt64, CutTo: math.MaxInt64}} {
		for _, metadata := range []string{"", "ph1:AA", "something else"} {
			got, rest, ok := UnmarkLoss(l.Mark(metadata))
			if !ok || got != l || rest != metadata {
				t.Errorf("%+v before %q: read %+v, %q, %t", l, metadata, got, rest, ok)
			}
		}
	}
	for _, text := range []string{"", "ph1:AA", "ph1!", "ph1!5!ph1:AA", "ph1!-1/5!ph1:AA", "ph1!5/9223372036854775808!ph1:AA", "ph1!1/2"} {
		if l, rest, ok := UnmarkLoss(text); ok || rest != text {
			t.Errorf("%q: read %+v, %q", text, l, rest)
		}
	}
}

func TestTheMetadataOfALossIsNeverTooLargeToCommit(t *testing.T) {
	tr := NewTracker(0, nil)
	for o := range int64(20_000) {
		if k := tr.Track(o); o%2 == 1 {
			k.Done()
		}
	}
	text := Loss{math.MaxInt64, math.MaxInt64}.Mark(EncodeMetadata(tr.Snapshot(LossRunsLimit), math.MaxInt64))
	if len(text) > MetadataLimit || len(text) < MetadataLimit*9/10 {
		t.Errorf("%d characters, want close to %d", len(text), MetadataLimit)
	}
	if _, _, err := DecodeMetadata(text, 0); err == nil || !strings.HasPrefix(text, lossMark) {
		t.Error("a reader that doesn't know losses takes it for an ordinary commit")
	}
}

func TestNothingFromTheCutOnCountsAsFinished(t *testing.T) {
	s := Snapshot{Watermark: 10, Finished: Runs{{12, 15}, {20, 30}}}
	for cut, want := range map[int64]Snapshot{
		5: {Watermark: 5}, 10: {Watermark: 10}, 12: {Watermark: 10}, 13: {Watermark: 10, Finished: Runs{{12, 13}}},
		15: {Watermark: 10, Finished: Runs{{12, 15}}}, 20: {Watermark: 10, Finished: Runs{{12, 15}}},
		29: {Watermark: 10, Finished: Runs{{12, 15}, {20, 29}}}, 30: s, 99: s,
	} {
		if got := s.Below(cut); got.Watermark != want.Watermark || len(got.Finished)+len(want.Finished) > 0 && !reflect.DeepEqual(got.Finished, want.Finished) {
			t.Errorf("cut at %d: %+v, want %+v", cut, got, want)
		}
	}
	if !reflect.DeepEqual(s.Finished, Runs{{12, 15}, {20, 30}}) {
		t.Error("the snapshot itself was changed")
	}
}
