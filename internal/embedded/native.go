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
