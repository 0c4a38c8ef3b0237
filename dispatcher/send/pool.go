package send

import (
	"container/list"
	"net/url"
	"slices"
	"sync"
	"time"
)

// route is what makes connections alike: any of a route's serves any of its
// requests. A connection that was made for TLS 1.2 never serves a request that
// wants 1.3.
type route struct {
	https  bool
	addr   string // host:port, the host in ASCII
	minTLS uint16
}

func routeOf(u *url.URL, minTLS uint16) (route, error) {
	addr, err := dialAddr(u)
	if err != nil {
		return route{}, err
	}
	return route{https: u.Scheme == "https", addr: addr, minTLS: minTLS}, nil
}

// pool keeps idle connections for reuse, the latest used first, so that those
// that a burst needed run out by themselves. It is safe for concurrent use.
type pool struct {
	perRoute, all int
	timeout       time.Duration

	mu     sync.Mutex
	routes map[route][]*conn
	order  list.List // of *conn, idle for longest first
	expiry *time.Timer
	closed bool
}

func newPool(cfg Config) *pool {
	return &pool{perRoute: cfg.MaxIdlePerHost, all: cfg.MaxIdle, timeout: cfg.IdleTimeout, routes: make(map[route][]*conn)}
}

// take returns an idle connection, or nil.
func (p *pool) take(r route) *conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	idle := p.routes[r]
	if len(idle) == 0 {
		return nil
	}
	c := idle[len(idle)-1]
	p.remove(c)
	return c
}

// put keeps a connection, or closes it where there is no room or no pool any
// more.
func (p *pool) put(c *conn) {
	var surplus *conn
	p.mu.Lock()
	switch {
	case p.closed || p.all <= 0 || len(p.routes[c.route]) >= p.perRoute:
		surplus = c
	default:
		if p.order.Len() >= p.all {
			surplus = p.order.Front().Value.(*conn)
			p.remove(surplus)
		}
		c.idleSince = time.Now()
		c.place = p.order.PushBack(c)
		p.routes[c.route] = append(p.routes[c.route], c)
		if p.expiry == nil {
			p.expiry = time.AfterFunc(p.timeout, p.expire)
		}
	}
	p.mu.Unlock()
	if surplus != nil {
		surplus.close()
	}
}

// remove takes an idle connection out. The lock is held.
func (p *pool) remove(c *conn) {
	p.order.Remove(c.place)
	c.place = nil
	idle := p.routes[c.route]
	for i, other := range slices.Backward(idle) { // mostly the last
		if other == c {
			idle = slices.Delete(idle, i, i+1)
			break
		}
	}
	if len(idle) == 0 {
		delete(p.routes, c.route)
	} else {
		p.routes[c.route] = idle
	}
}

// expire closes what was idle for too long and comes again for the next.
func (p *pool) expire() {
	var over []*conn
	p.mu.Lock()
	now := time.Now()
	p.expiry = nil
	for e := p.order.Front(); e != nil; e = p.order.Front() {
		c := e.Value.(*conn)
		if left := p.timeout - now.Sub(c.idleSince); left > 0 {
			p.expiry = time.AfterFunc(left, p.expire)
			break
		}
		p.remove(c)
		over = append(over, c)
	}
	p.mu.Unlock()
	for _, c := range over {
		c.close()
	}
}

// close ends the idle connections; those that come back later end too.
func (p *pool) close() {
	var over []*conn
	p.mu.Lock()
	p.closed = true
	if p.expiry != nil {
		p.expiry.Stop()
		p.expiry = nil
	}
	for e := p.order.Front(); e != nil; e = p.order.Front() {
		c := e.Value.(*conn)
		p.remove(c)
		over = append(over, c)
	}
	p.mu.Unlock()
	for _, c := range over {
		c.close()
	}
}
