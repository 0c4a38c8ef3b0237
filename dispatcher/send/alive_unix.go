//go:build unix

package send

import (
	"crypto/tls"
	"errors"
	"net"
	"syscall"
	"time"
)

// alive reports whether an idle connection can still be written to, as far as
// this side knows: the receiver has neither closed it nor sent anything. It
// looks without waiting and without taking anything out.
func alive(c net.Conn) bool {
	secure, isTLS := c.(*tls.Conn)
	if isTLS {
		c = secure.NetConn()
	}
	sys, ok := c.(syscall.Conn)
	if !ok {
		return true // a network in memory: a write will tell
	}
	raw, err := sys.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	var peek [1]byte
	var looked error
	if err := raw.Control(func(fd uintptr) {
		n, _, looked = syscall.Recvfrom(int(fd), peek[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	}); err != nil {
		return false
	}
	switch {
	case errors.Is(looked, syscall.EAGAIN):
		return true
	case looked != nil || n <= 0 || !isTLS:
		return false // closed, broken, or an answer to nothing
	}
	// A record waits: a session ticket, which is fine, or the notice that the
	// receiver closes. A timed-out read leaves a TLS connection intact.
	_ = secure.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err = secure.Read(peek[:])
	return isTimeout(err)
}
