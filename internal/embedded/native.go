package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// reencode writes blocks of the Native format, which the library gives at
// revision 0 of the protocol, at the revision that the client speaks (its
// parameter client_protocol_version). buffer is reused.
func reencode(data []byte, revision uint64, buffer *chproto.Buffer) error {
	reader := chproto.NewReader(bytes.NewReader(data))
	buffer.Reset()
	for {
		// The times of the client are none of this conversion's: UTC everywhere.
		block := proto.Block{ServerContext: &column.ServerContext{Timezone: time.UTC}}
		if err := block.Decode(reader, 0); err != nil {
			if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return fmt.Errorf("decoding a block of the result: %w", err)
		}
		if err := block.Encode(buffer, revision); err != nil {
			return fmt.Errorf("encoding a block of the result: %w", err)
		}
	}
}

// encodeColumns makes a block without rows of what DESCRIBE says: each column's
// name and type come first. proto.Block can't: it writes the prefixes of types such
// as LowCardinality, which a block without rows doesn't have.
func encodeColumns(described []byte, revision uint64, buffer *chproto.Buffer) error {
	columns := proto.Block{ServerContext: &column.ServerContext{Timezone: time.UTC}}
	if err := columns.Decode(chproto.NewReader(bytes.NewReader(described)), 0); err != nil {
		return fmt.Errorf("decoding the columns of the result: %w", err)
	}
	buffer.Reset()
	if revision > 0 {
		chproto.BlockInfo{BucketNum: -1}.Encode(buffer)
	}
	buffer.PutUVarInt(uint64(columns.Rows()))
	buffer.PutUVarInt(0)
	for i := range columns.Rows() {
		for _, c := range columns.Columns[:2] {
			text, _ := c.Row(i, false).(string)
			buffer.PutString(text)
		}
		if revision >= proto.DBMS_MIN_REVISION_WITH_CUSTOM_SERIALIZATION {
			buffer.PutBool(false)
		}
	}
	return nil
}
