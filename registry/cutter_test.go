package registry

import (
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// cutter closes all connections of a client at once, for instance while the
// broker handles a request whose answer shall be lost.
type cutter struct {
	mu    sync.Mutex
	conns []net.Conn
}

var _ kgo.HookBrokerConnect = (*cutter)(nil)

// OnBrokerConnect collects the connections.
func (c *cutter) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, conn net.Conn, _ error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if conn != nil {
		c.conns = append(c.conns, conn)
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.conns = nil
}
