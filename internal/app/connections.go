package app

import (
	"container/list"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
)

// connections are a listener whose connections are bounded in number. Beyond
// the bound one that waits for a request makes room, the one that has waited
// longest, so that those who open connections and say nothing shut out nobody.
// Where none waits, it is the new one that goes.
type connections struct {
	net.Listener
	max int

	mu      sync.Mutex
	open    int
	waiting *list.List // of *connection, the longest first
}

// A connection is one of them.
type connection struct {
	net.Conn
	all  *connections
	once sync.Once

	// at and closed are guarded by all.mu. at is the place in all.waiting, nil
	// while a request is served, and in the end.
	at     *list.Element
	closed bool
}

func limit(l net.Listener, max int) *connections {
	return &connections{Listener: l, max: max, waiting: list.New()}
}

// Accept implements net.Listener.
func (l *connections) Accept() (net.Conn, error) {
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
func (l *connections) admit(c *connection) *connection {
	l.mu.Lock()
	defer l.mu.Unlock()
	c.at = l.waiting.PushBack(c)
	if l.open++; l.open <= l.max {
		return nil
	}
	return l.waiting.Front().Value.(*connection)
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

// changed is told by the HTTP server of its connections.
func (l *connections) changed(conn net.Conn, state http.ConnState) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	c, ok := conn.(*connection)
	if !ok || state == http.StateNew {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c.leave()
	if state == http.StateIdle && !c.closed {
		c.at = l.waiting.PushBack(c)
	}
}
