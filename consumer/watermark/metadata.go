package watermark

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
)

// MetadataLimit is the most characters that a broker takes as the metadata of
// one committed offset (Apache Kafka, offset.metadata.max.bytes).
const MetadataLimit = 4096

// metadataMark begins our metadata and carries its version.
const metadataMark = "ph1:"

// RunsLimit is the raw bytes that are left for runs: base64 takes 4 characters
// for 3 bytes, and the mark and the read-back distance come first.
const RunsLimit = (MetadataLimit-len(metadataMark))/4*3 - binary.MaxVarintLen64

// ErrForeign says that a commit's metadata isn't ours: someone reset the group
// by hand, or another program committed.
var ErrForeign = errors.New("commit metadata is not Posthorn's")

// EncodeMetadata writes the commit metadata of a partition: how far below the
// watermark a successor begins to read in order to know the repeats, and the
// finished runs above it.
func EncodeMetadata(s Snapshot, back int64) string {
	raw := binary.AppendUvarint(nil, uint64(max(back, 0)))
	raw = s.Finished.Append(raw, s.Watermark)
	return metadataMark + base64.RawStdEncoding.EncodeToString(raw)
}

// DecodeMetadata is the inverse of [EncodeMetadata] for a committed watermark.
// Whatever it can't read is [ErrForeign]; a reader then goes on without runs.
func DecodeMetadata(text string, base int64) (back int64, finished Runs, err error) {
	rest, ok := strings.CutPrefix(text, metadataMark)
	if !ok {
		return 0, nil, ErrForeign
	}
	raw, err := base64.RawStdEncoding.DecodeString(rest)
	if err != nil {
		return 0, nil, ErrForeign
	}
	b, n := binary.Uvarint(raw)
	if n <= 0 || b > uint64(max(base, 0)) {
		return 0, nil, ErrForeign
	}
	finished, err = DecodeRuns(raw[n:], base)
	if err != nil {
		return 0, nil, ErrForeign
	}
	return int64(b), finished, nil
}
