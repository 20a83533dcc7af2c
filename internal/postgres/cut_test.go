package postgres_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

// A cutter stands between a store and its database, and cuts all connections
// once so many bytes have gone through it in one direction.
type cutter struct {
	to   string // the database's socket
	left [2]atomic.Int64
	cuts [2]atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]bool
}

const (
	toDatabase = iota
	fromDatabase
)

// never is so many bytes that nothing is cut.
const never = 1 << 60

// newCutter returns a cutter, and the address of a database behind it.
func newCutter(t *testing.T, dsn string) (*cutter, string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "cut") // a test's own has too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	const socket = ".s.PGSQL.5432"
	l, err := net.Listen("unix", filepath.Join(dir, socket))
	if err != nil {
		t.Fatal(err)
	}
	const host = "host="
	before, real, _ := strings.Cut(dsn, host)
	c := &cutter{to: filepath.Join(strings.ReplaceAll(real, "%2F", "/"), socket), conns: map[net.Conn]bool{}}
	c.after(toDatabase, never)
	c.after(fromDatabase, never)
	t.Cleanup(func() { l.Close(); c.cut() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", c.to)
			if err != nil {
				near.Close()
				continue
			}
			c.mu.Lock()
			c.conns[near], c.conns[far] = true, true
			c.mu.Unlock()
			go c.pass(toDatabase, near, far)
			go c.pass(fromDatabase, far, near)
		}
	}()
	return c, before + host + dir
}

// after has the connections cut after so many bytes in a direction.
func (c *cutter) after(direction int, bytes int64) { c.left[direction].Store(bytes) }

func (c *cutter) pass(direction int, from, to net.Conn) {
	defer func() { from.Close(); to.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		left := c.left[direction].Add(-int64(n))
		if _, failed := to.Write(buf[:max(0, min(int64(n), left+int64(n)))]); failed != nil || err != nil {
			return
		}
		if left <= 0 && left+int64(n) > 0 {
			c.after(direction, never)
			c.cuts[direction].Add(1)
			c.cut()
			return
		}
	}
}

// cut cuts all connections.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
		delete(c.conns, conn)
	}
}

// TestAConnectionThatIsCutAnywhereLosesAndDoublesNothing cuts the connections of a
// server in the midst of what it sends to the database, and of the answers.
func TestAConnectionThatIsCutAnywhereLosesAndDoublesNothing(t *testing.T) {
	server := testenv.StartPostgres(t)
	name := ledgerIn(t, server)
	c, dsn := newCutter(t, server.DSN(name, "app"))
	b := storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		return postgres.Open(t.Context(), dsn, postgres.Options{Verifier: b.Verifier, OnError: func(error) {}})
	})
	r := b.Start(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	events := 0
	for direction, most := range []int64{toDatabase: 16 << 10, fromDatabase: 100} {
		for range 40 {
			c.after(direction, 1+rng.Int64N(most))
			var wg sync.WaitGroup
			for range 8 {
				e := storetest.Event(events)
				e.Details = fmt.Appendf(nil, `{"note":%q}`, strings.Repeat("x", 3000))
				events++
				wg.Go(func() { once(t, r.Ledger, e) })
			}
			wg.Wait()
			if t.Failed() {
				return
			}
		}
		c.after(direction, never)
	}
	whole(t, b, r, int64(events))
	if to, from := c.cuts[toDatabase].Load(), c.cuts[fromDatabase].Load(); to < 20 || from < 20 {
		t.Errorf("cut %d and %d times", to, from)
	}
}

// TestADatabaseThatMayNotGrowRefusesAndGoesOn has the database's processes make
// no file larger than it may be, as where a quota is used up.
func TestADatabaseThatMayNotGrowRefusesAndGoesOn(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	r := b.Start(t)
	lift := server.Limit(20 << 20) // files of the log have 16 MB
	noise := make([]byte, 100<<10)
	rand.NewChaCha8([32]byte{}).Read(noise)
	large := func(n int) *event.Event {
		e := storetest.Event(n)
		e.Details = fmt.Appendf(nil, `{"note":"%x"}`, noise[n%1000:]) // does not compress
		return e
	}
	n, refused := 0, 0
	for ; refused < 3; n++ {
		results, _, err := r.Ledger.Append(t.Context(), storetest.By, []*event.Event{large(n)})
		if err == nil {
			err = results[0].Err
		}
		switch {
		case errors.Is(err, ledger.ErrFull):
			refused++
			n--
		case err != nil:
			t.Fatal(err)
		case n > 1000:
			t.Fatal("nothing is refused")
		}
	}
	if size := r.Ledger.State().Size(); size != int64(n+1) {
		t.Errorf("%d entries, want %d", size, n+1)
	}
	r.Check(b)
	lift()
	for range 3 {
		r.Append(large(n))
		n++
	}
	whole(t, b, r, int64(n))
}
