package rest_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

const events, batchRoute = "/api/v1/audit/events", "/api/v1/audit/events/batch"

func maxBody(n int64) change { return configured(func(c *rest.Config) { c.MaxBody = n }) }

func bodyTimeout(d time.Duration) change {
	return configured(func(c *rest.Config) { c.BodyTimeout = d })
}

func gzipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstandard(t *testing.T, text string, options ...zstd.EOption) string {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBodiesMayBeCompressed(t *testing.T) {
	d := open(t)
	for name, tt := range map[string]struct{ encoding, body string }{
		"plain":               {"", native},
		"plain by name":       {"identity", native},
		"gzip":                {"gzip", gzipped(t, native)},
		"gzip in capitals":    {"GZIP", gzipped(t, native)},
		"gzip in two members": {"gzip", gzipped(t, native[:20]) + gzipped(t, native[20:])},
		"zstd":                {"zstd", zstandard(t, native)},
		"zstd in two frames":  {"zstd", zstandard(t, native[:20]) + zstandard(t, native[20:])},
	} {
		t.Run(name, func(t *testing.T) {
			before := d.events()
			d.as("recorder").post(events, tt.body, "Content-Encoding", tt.encoding).want(http.StatusCreated)
			d.as("recorder").post(batchRoute, tt.body, "Content-Encoding", tt.encoding).want(http.StatusCreated)
			if got := d.events() - before; got != 2 {
				t.Errorf("%d events recorded", got)
			}
		})
	}
}

func TestABodyThatCannotBeDecompressedIsRefused(t *testing.T) {
	d := open(t)
	d.unchanged(func() {
		for _, tt := range []struct {
			name, encoding, body string
			status               int
			about                string
		}{
			{"an unknown encoding", "br", native, 415, "Content-Encoding"},
			{"two encodings", "gzip, gzip", gzipped(t, gzipped(t, native)), 415, "Content-Encoding"},
			{"a truncated gzip", "gzip", gzipped(t, native)[:60], 400, "body"},
			{"a gzip without its checksum", "gzip", gzipped(t, native)[:len(gzipped(t, native))-4], 400, "body"},
			{"a gzip with a wrong checksum", "gzip", gzipped(t, native)[:len(gzipped(t, native))-8] + "xxxxxxxx", 400, "body"},
			{"a gzip with rubbish behind", "gzip", gzipped(t, native) + "rubbish", 400, "body"},
			{"no gzip", "gzip", native, 400, "body"},
			{"an empty gzip", "gzip", "", 400, "body"},
			{"a truncated zstd", "zstd", zstandard(t, native)[:60], 400, "body"},
			{"no zstd", "zstd", native, 400, "body"},
			{"a zstd that wants 64 MiB", "zstd", zstandard(t, strings.Repeat("x", 1<<20), zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false)), 400, "body"},
		} {
			for _, path := range []string{events, batchRoute, "/api/v1/ingest/kube-audit"} {
				a := d.as("recorder").post(path, tt.body, "Content-Encoding", tt.encoding)
				a.what = tt.name
				a.problem(tt.status, tt.about, "")
			}
		}
	})
}

// TestCompressedBombsTakeLittleMemory does not run beside others, which would
// count.
func TestCompressedBombsTakeLittleMemory(t *testing.T) {
	d := openAlone(t, maxBody(1<<20))
	zeros := strings.Repeat("\x00", 1<<20)
	for encoding, part := range map[string]string{"gzip": gzipped(t, zeros), "zstd": zstandard(t, zeros)} {
		bomb := strings.Repeat(part, 128) // of both, parts may follow each other
		if len(bomb) > 1<<20 {
			t.Fatalf("the bomb has %d bytes", len(bomb))
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		d.as("recorder").post(batchRoute, bomb, "Content-Encoding", encoding).problem(http.StatusRequestEntityTooLarge, "body", "1048576 bytes")
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 32<<20 {
			t.Errorf("%s: it took %d MiB to refuse 128", encoding, took>>20)
		}
	}
}

// An endless is a body that never ends; it counts what was read of it.
type endless struct{ n atomic.Int64 }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.n.Add(int64(len(b)))
	return len(b), nil
}

func TestABodyThatIsTooLargeIsRefusedWhileItIsSent(t *testing.T) {
	const limit = 1 << 20
	d := open(t, maxBody(limit))
	for _, path := range []string{events, batchRoute, "/api/v1/ingest/kube-audit", "/api/v1/audit/verify-chain"} {
		for name, length := range map[string]int64{"declared": 2 << 30, "chunked": -1} {
			t.Run(name+" to "+path, func(t *testing.T) {
				body := &endless{}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL+path, body)
				if err != nil {
					t.Fatal(err)
				}
				req.ContentLength = length
				req.Header.Set("Authorization", "Bearer "+d.secrets["operator"])
				resp, err := d.Client().Do(req)
				if err != nil {
					t.Fatalf("the client did not get the answer: %v", err)
				}
				defer resp.Body.Close()
				if resp.StatusCode != http.StatusRequestEntityTooLarge || resp.Header.Get("Content-Type") != "application/problem+json" {
					t.Errorf("status %d, type %s", resp.StatusCode, resp.Header.Get("Content-Type"))
				}
				cancel()
				// What the kernel's buffers take was sent and not read.
				if n := body.n.Load(); n > limit+64<<20 {
					t.Errorf("%d bytes were sent", n)
				}
			})
		}
	}
	if d.events() != 1 {
		t.Error("something was recorded")
	}
}

func TestABodyOfExactlyTheLimitIsTaken(t *testing.T) {
	doc := with(native, "details", `{"a":"`+strings.Repeat("x", 8000)+`"}`)
	d := open(t, maxBody(int64(len(doc))))
	d.as("recorder").post(events, doc).want(http.StatusCreated)
	d.as("recorder").post(events, doc+" ").problem(http.StatusRequestEntityTooLarge, "body", "")
	d.as("recorder").do(http.MethodPost, events, io.MultiReader(strings.NewReader(doc))).want(http.StatusCreated) // chunked
	d.as("recorder").do(http.MethodPost, events, io.MultiReader(strings.NewReader(doc+" "))).problem(http.StatusRequestEntityTooLarge, "body", "")
	d.as("recorder").post(events, gzipped(t, doc), "Content-Encoding", "gzip").want(http.StatusCreated)
	d.as("recorder").post(events, gzipped(t, doc+" "), "Content-Encoding", "gzip").problem(http.StatusRequestEntityTooLarge, "body", "")
}

func TestBodiesHaveBoundedMemoryBetweenThem(t *testing.T) {
	d := open(t, configured(func(c *rest.Config) { c.MaxBodies = 64 << 10 }))
	large := with(native, "details", `{"a":"`+strings.Repeat("x", 100<<10)+`"}`)
	for range 3 {
		d.as("recorder").post(events, large).problem(http.StatusServiceUnavailable, "", "busy")
		d.as("recorder").post(events, zstandard(t, native), "Content-Encoding", "zstd").problem(http.StatusServiceUnavailable, "", "busy")
		d.as("recorder").post(events, "x", "Content-Encoding", "gzip").problem(http.StatusBadRequest, "body", "")
		d.as("recorder").post(events, native).want(http.StatusCreated) // what was taken was given back
	}
}

// trickle opens a connection, sends a request's beginning and returns what
// comes back.
func trickle(t *testing.T, d *door, head string) *http.Response {
	t.Helper()
	conn, err := net.Dial("tcp", d.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestABodyThatDoesNotArriveInTimeHoldsNobodyUp(t *testing.T) {
	d := open(t, bodyTimeout(100*time.Millisecond))
	auth := "\r\nAuthorization: Bearer " + d.secrets["operator"]
	for _, tt := range []struct {
		name, head string
		status     int
	}{
		{"of an event", "POST /api/v1/audit/events HTTP/1.1\r\nHost: x" + auth + "\r\nContent-Length: 100\r\n\r\n{\"event", 408},
		{"of an event, in chunks", "POST /api/v1/audit/events HTTP/1.1\r\nHost: x" + auth + "\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"eve\r\n", 408},
		{"of a batch, compressed", "POST /api/v1/audit/events/batch HTTP/1.1\r\nHost: x" + auth + "\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n\x1f\x8b", 408},
		{"from somebody without a token", "POST /api/v1/audit/events HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 401},
		{"for a route that takes none", "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 200},
		{"for no route", "PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{", 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if resp := trickle(t, d, tt.head); resp.StatusCode != tt.status {
				t.Errorf("status %d, want %d", resp.StatusCode, tt.status)
			}
		})
	}
	if d.events() != 1 {
		t.Error("something was recorded")
	}
}

// A slowStore lets time pass before it reads a record.
type slowStore struct {
	rest.Store
	wait func(ctx context.Context)
}

func (s slowStore) Stored() search.Reader { return slowly{s.Store.Stored(), s.wait} }

type slowly struct {
	search.Reader
	wait func(ctx context.Context)
}

func (d slowly) Record(ctx context.Context, index int64) (trail.Record, error) {
	d.wait(ctx)
	return d.Reader.Record(ctx, index)
}

func TestTheTimeForABodyIsNotTheTimeForTheAnswer(t *testing.T) {
	var waited, cut atomic.Int64
	d := open(t, bodyTimeout(200*time.Millisecond), change{store: func(s rest.Store) rest.Store {
		return slowStore{s, func(ctx context.Context) {
			select {
			case <-ctx.Done():
				cut.Add(1)
			case <-time.After(400 * time.Millisecond):
				waited.Add(1)
			}
		}}
	}})
	d.as("recorder").record(sample(0))
	a := d.as("viewer").post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`).want(http.StatusOK)
	holds(t, "verdict", a.body, `{"is_valid":true,"verified_events":1}`)
	if waited.Load() == 0 || cut.Load() > 0 {
		t.Errorf("of %d delays, %d were cut short", waited.Load()+cut.Load(), cut.Load())
	}
}
