package agent_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/agent"
)

// A home is an agent whose server is away, unless it is let back.
type home struct {
	t      *testing.T
	dir    string
	url    string
	http   *http.Client
	server *ledger
}

// A ledger is a server that may be away.
type ledger struct {
	mu   sync.Mutex
	back bool
	got  []json.RawMessage
	how  string // query of the last request
}

func (l *ledger) RoundTrip(r *http.Request) (*http.Response, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if !l.back {
		return nil, io.ErrUnexpectedEOF
	}
	var events []struct{ ID string }
	var raw []json.RawMessage
	if err := json.Unmarshal(body, &events); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, err
	}
	l.got, l.how = append(l.got, raw...), r.URL.RawQuery
	var items []string
	for i, e := range events {
		items = append(items, fmt.Sprintf(`{"position":%d,"id":%q}`, i, e.ID))
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(`{"items":[` + strings.Join(items, ",") + `]}`))}, nil
}

func start(t *testing.T, address string, maxBytes int64) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir(), server: &ledger{}, http: &http.Client{}}
	c, err := client.New(client.Config{URL: "http://ledger.example", HTTP: &http.Client{Transport: h.server}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.NewRecorder(client.RecorderConfig{Dir: h.dir, Source: "host", MaxBytes: maxBytes, OnFull: client.Refuse, Asserted: true})
	if err != nil {
		t.Fatal(err)
	}
	l, err := agent.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	h.url = "http://" + l.Addr().String()
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		h.url = "http://agent"
		h.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.New(r, slog.New(slog.DiscardHandler)).Serve(ctx, l) }()
	t.Cleanup(func() {
		h.http.CloseIdleConnections()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// post sends a body and returns the answer.
func (h *home) post(path, contentType, body string, header ...string) (int, string) {
	h.t.Helper()
	req, err := http.NewRequest(http.MethodPost, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := h.http.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// until waits until the server has n events.
func (h *home) until(n int) []json.RawMessage {
	h.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		h.server.mu.Lock()
		got := h.server.got
		h.server.mu.Unlock()
		if len(got) >= n || time.Now().After(end) {
			if len(got) != n {
				h.t.Fatalf("the server has %d events, want %d", len(got), n)
			}
			return got
		}
	}
}

func (h *home) letBack() {
	h.server.mu.Lock()
	defer h.server.mu.Unlock()
	h.server.back = true
}

const one = `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"user","name":"a"},"resource":{"kind":"Issue","name":"i"}}`

const flat = `{"version":"1.0","event_type":"gateway.signal.received","event_timestamp":"2026-03-19T14:30:00Z","event_category":"gateway","event_action":"received",` +
	`"event_outcome":"success","actor_type":"service","actor_id":"gateway","resource_type":"Signal","resource_id":"s","correlation_id":"rr-1","event_data":{"signal_type":"alert"}}`

func TestEventsAreTakenWhileTheServerIsAwayAndDeliveredLater(t *testing.T) {
	for name, address := range map[string]string{"loopback": "127.0.0.1:0", "a socket": "unix:" + filepath.Join(t.TempDir(), "agent.sock")} {
		t.Run(name, func(t *testing.T) {
			h := start(t, address, 0)
			if status, text := h.post("/api/v1/audit/events", "application/json; charset=utf-8", one); status != http.StatusAccepted || !strings.Contains(text, `"spooled":true`) {
				t.Errorf("%d %s", status, text)
			}
			if status, text := h.post("/api/v1/audit/events/batch", "application/json", "["+one+","+flat+"]"); status != http.StatusAccepted || strings.Count(text, `"spooled":true`) != 2 {
				t.Errorf("%d %s", status, text)
			}
			if status, text := h.post("/api/v1/audit/events/batch", "application/x-ndjson", one+"\n\n"+one+"\n"); status != http.StatusAccepted || strings.Count(text, `"spooled":true`) != 2 {
				t.Errorf("%d %s", status, text)
			}
			h.letBack()
			got := h.until(5)
			for i, raw := range got {
				var e struct{ Source struct{ Seq int } }
				if err := json.Unmarshal(raw, &e); err != nil || e.Source.Seq != i+1 {
					t.Errorf("event %d is number %d, %v", i+1, e.Source.Seq, err)
				}
			}
			if h.server.how != "asserted=true" {
				t.Errorf("it was recorded with %q", h.server.how)
			}
		})
	}
}

func TestEachEventIsTakenOrRefusedByItself(t *testing.T) {
	h := start(t, "127.0.0.1:0", 0)
	bad := strings.Replace(one, `"name":"a"`, `"name":""`, 1)
	own := strings.Replace(one, "IssueCreated", "LedgerCreated", 1)
	status, text := h.post("/api/v1/audit/events/batch", "application/json", "["+one+","+bad+","+own+",7,"+one+"]")
	var answer struct {
		Items []struct {
			Position int
			ID       string
			Spooled  bool
			Error    *client.Problem
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != http.StatusAccepted || len(answer.Items) != 5 {
		t.Fatalf("%d %s", status, text)
	}
	for i, want := range []int{0, http.StatusBadRequest, http.StatusForbidden, http.StatusBadRequest, 0} {
		it := answer.Items[i]
		if it.Position != i || it.Spooled != (want == 0) || want != 0 && (it.Error == nil || it.Error.Status != want) || want == 0 && it.ID == "" {
			t.Errorf("%d: %+v %+v", i, it, it.Error)
		}
	}
	if e := answer.Items[1].Error; e != nil && (len(e.Errors) != 1 || e.Errors[0].Field != "actor.name") {
		t.Errorf("%+v", e)
	}
}

func TestABatchOfAnySizeIsTakenInOrder(t *testing.T) {
	for name, tt := range map[string]struct {
		maxBytes int64
		n, size  int
		taken    int
	}{
		"many small ones":               {0, 10_000, 10, 10_000},
		"more bytes than go together":   {256 << 10, 12, 20_000, 12},
		"one that does not go in alone": {64 << 10, 1, 40_000, 0},
	} {
		h := start(t, "127.0.0.1:0", tt.maxBytes)
		h.letBack()
		var lines strings.Builder
		for i := range tt.n {
			fmt.Fprintln(&lines, strings.Replace(one, `"name":"i"`, fmt.Sprintf(`"name":"%d"},"details":{"x":"%s"`, i, strings.Repeat("x", tt.size)), 1))
		}
		status, text := h.post("/api/v1/audit/events/batch", "application/x-ndjson", lines.String())
		if n := strings.Count(text, `"spooled":true`); status != http.StatusAccepted || n != tt.taken {
			t.Errorf("%s: %d, %d taken: %.300s", name, status, n, text)
			continue
		}
		for i, raw := range h.until(tt.taken) {
			if !strings.Contains(string(raw), fmt.Sprintf(`"name":"%d"`, i)) {
				t.Fatalf("%s: event %d is %.300s", name, i, raw)
			}
		}
	}
}

func TestWhatCannotBeTakenIsRefusedClearly(t *testing.T) {
	h := start(t, "127.0.0.1:0", 0)
	for name, tt := range map[string]struct {
		path, contentType, body string
		header                  []string
		status                  int
		says                    string
	}{
		"no JSON":             {"events", "application/json", "hello", nil, 400, "not valid"},
		"no list":             {"events/batch", "application/json", "[1", nil, 400, "list"},
		"an empty list":       {"events/batch", "application/json", " ", nil, 400, "no events"},
		"too many":            {"events/batch", "application/x-ndjson", strings.Repeat("{}\n", 10_001), nil, 400, "the limit is 10000"},
		"too large":           {"events", "application/json", strings.Repeat(" ", 17<<20), nil, 413, "16777216"},
		"what a form sends":   {"events", "text/plain", one, nil, 415, "Content-Type"},
		"a page of the web":   {"events", "application/json", one, []string{"Origin", "https://evil.example"}, 403, "Origin"},
		"another name for us": {"events", "application/json", one, []string{"Host", "evil.example:8092"}, 403, "loopback"},
		"a reserved type":     {"events", "application/json", strings.Replace(one, "IssueCreated", "LedgerCreated", 1), nil, 403, "ledger"},
	} {
		if status, text := h.post("/api/v1/audit/"+tt.path, tt.contentType, tt.body, tt.header...); status != tt.status || !strings.Contains(text, tt.says) {
			t.Errorf("%s: %d %.300s", name, status, text)
		}
	}
}

func TestWhatIsTooManyTakesNoMemory(t *testing.T) {
	h := start(t, "127.0.0.1:0", 0)
	for contentType, body := range map[string]string{
		"application/json":     "[" + strings.Repeat("1,", 8<<20-2) + "1]",
		"application/x-ndjson": strings.Repeat("1\n", 8<<20),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		status, text := h.post("/api/v1/audit/events/batch", contentType, body)
		runtime.ReadMemStats(&after)
		if status != http.StatusBadRequest || !strings.Contains(text, "the limit is 10000") {
			t.Errorf("%s: %d %.300s", contentType, status, text)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 192<<20 {
			t.Errorf("%s: %d bytes of memory were taken", contentType, used)
		}
	}
}

func TestAFullSpoolIsToldAndPasses(t *testing.T) {
	h := start(t, "127.0.0.1:0", 16<<10)
	for n := 0; ; n++ {
		status, text := h.post("/api/v1/audit/events", "application/json", one)
		if status == http.StatusServiceUnavailable && strings.Contains(text, "full") {
			break
		}
		if status != http.StatusAccepted || n > 1000 {
			t.Fatalf("event %d: %d %s", n, status, text)
		}
	}
	h.letBack()
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if status, _ := h.post("/api/v1/audit/events", "application/json", one); status == http.StatusAccepted {
			return
		}
		if time.Now().After(end) {
			t.Fatal("it does not pass")
		}
	}
}

func TestItsHealthAndMetricsTellWhatIsWaiting(t *testing.T) {
	h := start(t, "127.0.0.1:0", 0)
	h.post("/api/v1/audit/events", "application/json", one)
	for path, says := range map[string]string{"/healthz": `"pending":1`, "/metrics": "graven_agent_pending 1"} {
		resp, err := h.http.Get(h.url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Contains(text, []byte(says)) {
			t.Errorf("%s: %s %v", path, text, err)
		}
	}
}

func TestItListensWhereNobodyElseReachesIt(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for address, says := range map[string]string{"0.0.0.0:0": "loopback", ":0": "loopback", "192.0.2.1:80": "loopback", "graven.example:80": "loopback",
		"nonsense": "port", "unix:" + file: "no socket", "unix:" + filepath.Join(dir, "none", "s"): "no such file"} {
		if l, err := agent.Listen(address); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v %v", address, l, err)
		}
	}
	path := filepath.Join(dir, "s")
	l, err := agent.Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := agent.Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v %v", again, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as if it were killed
	l.Close()
	again, err := agent.Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
