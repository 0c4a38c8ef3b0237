package registry

import (
	"context"
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

// slowly delays everything that is read from a broker.
func slowly(dial dialFunc, by time.Duration) dialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return slowConn{conn, by}, nil
	}
}

type slowConn struct {
	net.Conn
	by time.Duration
}

func (c slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(c.by)
	return n, err
}
