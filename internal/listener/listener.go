// Package listener bounds the connections to a server, and follows its certificate.
package listener

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Listener is one whose connections are bounded in number. Beyond the
// bound one that waits for a request makes room, the one that has waited
// longest, so that those who open connections and say nothing shut out nobody.
// Where none has waited for a second, it is the new one that goes: whoever is let
// in has that long to say something, however many others come.
type Listener struct {
	net.Listener
	max int

	mu      sync.Mutex
	open    int
	waiting *list.List // of *connection, the longest first
}

// A connection is one of them.
type connection struct {
	net.Conn
	all  *Listener
	once sync.Once

	// What follows is guarded by all.mu. at is the place in all.waiting, nil
	// while a request is served, and in the end.
	at     *list.Element
	since  time.Time // it waits
	closed bool
}

// patience is how long a connection may wait for a request, whoever else comes.
const patience = time.Second

// Limit returns a listener with up to max connections of l.
func Limit(l net.Listener, max int) *Listener {
	return &Listener{Listener: l, max: max, waiting: list.New()}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, all: l}
	if old := l.admit(c); old != nil {
		old.Close() // its error is nobody's business
	}
	return c, nil
}

// admit counts a connection, and returns the one that must go for it, if any.
func (l *Listener) admit(c *connection) *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.wait()
	if l.open++; l.open <= l.max {
		return nil
	}
	if old := l.waiting.Front().Value.(*connection); time.Since(old.since) >= patience {
		return old
	}
	return c
}

// wait begins waiting. The caller holds c.all.mu.
func (c *connection) wait() {
	c.at, c.since = c.all.waiting.PushBack(c), time.Now()
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.once.Do(func() {
		c.all.mu.Lock()
		defer c.all.mu.Unlock()
		c.all.open--
		c.closed = true
		c.leave()
	})
	return c.Conn.Close()
}

// leave ends waiting. The caller holds c.all.mu.
func (c *connection) leave() {
	if c.at != nil {
		c.all.waiting.Remove(c.at)
		c.at = nil
	}
}

// Changed is told by the HTTP server of its connections: it is to be the
// server's ConnState. Where the server has several listeners, any one's will do.
func (*Listener) Changed(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(*connection)
	if !ok || state == http.StateNew {
		return
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.leave()
	if state == http.StateIdle && !c.closed {
		c.wait()
	}
}
