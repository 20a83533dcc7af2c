package testenv

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A Redis is a Redis server of a test's own, on a Unix socket.
type Redis struct {
	t    testing.TB
	dir  string
	args []string
	daemon
}

// StartRedis starts a Redis server that makes everything durable at once, and
// ends with the test. Settings are of the form NAME VALUE, and override that.
func StartRedis(t testing.TB, settings ...string) *Redis {
	t.Helper()
	r := &Redis{t: t}
	program := Need(t, "redis-server")
	var err error
	if r.dir, err = os.MkdirTemp("", "redis"); err != nil { // the test's own may have a name too long for a socket
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(r.dir) })
	r.args = []string{program, "--port", "0", "--unixsocket", r.socket(), "--dir", r.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"}
	for _, s := range settings {
		name, value, _ := strings.Cut(s, " ")
		r.args = append(r.args, "--"+name, value)
	}
	t.Cleanup(r.Stop)
	r.Start()
	return r
}

func (r *Redis) socket() string { return filepath.Join(r.dir, "s") }

// Start starts the server again after Stop or Kill.
func (r *Redis) Start() {
	r.t.Helper()
	r.start(r.t, exec.Command(r.args[0], r.args[1:]...), func() bool {
		conn, err := net.Dial("unix", r.socket())
		if err != nil {
			return false
		}
		defer conn.Close()
		answer := make([]byte, 5)
		_, err = conn.Write([]byte("PING\r\n"))
		if err == nil {
			_, err = conn.Read(answer)
		}
		return err == nil && string(answer) == "+PONG" // and not that it is still loading
	})
}

// Stop stops the server in order.
func (r *Redis) Stop() { r.end(syscall.SIGTERM) }

// URL returns the server's address.
func (r *Redis) URL() string { return "unix://" + r.socket() }
