package app

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// simMode is a way in which a process loses touch with Kafka without ending.
type simMode string

const (
	// simMute swallows the requests of the group protocol: the process loses
	// its assignments, yet reads, produces and POSTs.
	simMute simMode = "its group requests are lost"
	// simDeaf holds the answers back: what it asks for happens, unknown to it.
	simDeaf simMode = "answers reach it late"
	// simStuck holds its requests back, and delivers them in the end.
	simStuck simMode = "its requests are sent late"
)

var simModes = []simMode{simMute, simMute, simDeaf, simStuck}

// simNet is one process's way to Kafka.
type simNet struct {
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	cut   bool
	modes map[simMode]chan struct{} // closed when the mode ends
	open  map[*simConn]struct{}
}

func newSimNet(dial func(ctx context.Context, network, address string) (net.Conn, error)) *simNet {
	return &simNet{dial: dial, modes: make(map[simMode]chan struct{}), open: make(map[*simConn]struct{})}
}

var errCut = errors.New("the network is cut")

func (n *simNet) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	raw, err := n.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &simConn{Conn: raw, net: n, closed: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut {
		_ = raw.Close()
		return nil, errCut
	}
	n.open[c] = struct{}{}
	return c, nil
}

// Cut is for good.
func (n *simNet) Cut() {
	n.mu.Lock()
	n.cut = true
	open := n.open
	n.open = make(map[*simConn]struct{})
	n.mu.Unlock()
	for c := range open {
		_ = c.Close()
	}
}

func (n *simNet) begin(m simMode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.modes[m] == nil {
		n.modes[m] = make(chan struct{})
	}
}

func (n *simNet) end(m simMode) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if ch := n.modes[m]; ch != nil {
		close(ch)
		delete(n.modes, m)
	}
}

func (n *simNet) mode(m simMode) chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.modes[m]
}

type simConn struct {
	net.Conn
	net    *simNet
	once   sync.Once
	closed chan struct{}
}

func (c *simConn) wait(m simMode) {
	for {
		ch := c.net.mode(m)
		if ch == nil {
			return
		}
		select {
		case <-ch:
		case <-c.closed:
			return
		}
	}
}

// Write gets one whole request: its size, and its key behind it (KIP-482,
// request header).
func (c *simConn) Write(b []byte) (int, error) {
	if len(b) >= 6 && c.net.mode(simMute) != nil {
		switch kmsg.Key(binary.BigEndian.Uint16(b[4:])) {
		case kmsg.Heartbeat, kmsg.OffsetCommit, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.LeaveGroup:
			return len(b), nil
		}
	}
	c.wait(simStuck)
	return c.Conn.Write(b)
}

// Read returns nothing while answers are held back.
func (c *simConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.wait(simDeaf)
	return n, err
}

func (c *simConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	c.net.mu.Lock()
	delete(c.net.open, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}
