package listener

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
)

// lookEvery is how often it is looked whether a certificate was replaced.
const lookEvery = 10 * time.Second

// A certificate is that of a server, in files that somebody replaces before it
// expires.
type certificate struct {
	cert, key string
	warn      func(error)

	mu     sync.Mutex
	pair   *tls.Certificate
	of     [2]os.FileInfo
	looked time.Time
}

// Certificate reads a certificate and its key, PEM files, and returns what the
// server's GetCertificate is to be: it has a new one within ten seconds after it
// stands in the files. While they are not a pair, the old one stays, and warn is
// told.
func Certificate(cert, key string, warn func(error)) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	c := &certificate{cert: cert, key: key, warn: warn}
	if err := c.look(); err != nil {
		return nil, err
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if time.Since(c.looked) >= lookEvery {
			if err := c.look(); err != nil {
				c.warn(err)
			}
		}
		return c.pair, nil
	}, nil
}

// look reads the files, unless they are those that were read.
func (c *certificate) look() error {
	c.looked = time.Now()
	var of [2]os.FileInfo
	for i, path := range []string{c.cert, c.key} {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		of[i] = info
	}
	if c.pair != nil && same(of[0], c.of[0]) && same(of[1], c.of[1]) {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return err
	}
	c.pair, c.of = &pair, of
	return nil
}

// same reports whether a file was neither replaced nor written to.
func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
