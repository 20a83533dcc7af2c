package app_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/reporter"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/verify"
)

const native = `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"controller","name":"issue-reconciler"},"resource":{"kind":"Issue","namespace":"production","name":"issue-1"}}`

// A server is one that runs.
type server struct {
	t      *testing.T
	app    *app.App
	client *http.Client
	stop   context.CancelFunc
	ended  chan error
}

// config returns a configuration for a new directory and any port.
func config(t *testing.T) app.Config {
	t.Helper()
	return app.Config{Data: filepath.Join(t.TempDir(), "data"), Listen: "127.0.0.1:0", SegmentSize: 1 << 20,
		Findings: app.Findings{Off: true}} // which come at any time
}

func try(c app.Config) (*app.App, error) {
	return app.New(context.Background(), c, "test", slog.New(slog.DiscardHandler), nil)
}

// run starts a server, which is stopped at the end of the test.
func run(t *testing.T, c app.Config) *server {
	t.Helper()
	a, err := try(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &server{t: t, app: a, client: &http.Client{Transport: &http.Transport{}}, stop: cancel, ended: make(chan error, 1)}
	go func() { s.ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		s.client.CloseIdleConnections()
		if s.ended != nil {
			<-s.ended
		}
	})
	return s
}

// halt stops the server and returns how it ended.
func (s *server) halt() error {
	s.stop()
	s.client.CloseIdleConnections()
	err := <-s.ended
	s.ended = nil
	return err
}

// token reads the first token, which is the administrator's.
func token(t *testing.T, c app.Config) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.Data, datadir.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// do sends a request and returns the answer's status and body.
func (s *server) do(method, path, secret, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.app.URL()+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// types returns the types of the ledger's events, in order.
func (s *server) types(secret string) []string {
	s.t.Helper()
	status, body := s.do(http.MethodGet, "/api/v1/audit?order=asc&limit=1000", secret, "")
	var list struct{ Events []struct{ EventType string } }
	if err := json.Unmarshal([]byte(body), &list); status != http.StatusOK || err != nil {
		s.t.Fatalf("status %d, %v: %s", status, err, body)
	}
	var types []string
	for _, e := range list.Events {
		types = append(types, e.EventType)
	}
	return types
}

func TestAServerGoesOnWhereItWasStopped(t *testing.T) {
	c := config(t)
	c.Origin = "audit.example.com/prod"
	s := run(t, c)
	secret := token(t, c)
	if status, body := s.do(http.MethodPost, "/api/v1/audit/events", secret, native); status != http.StatusCreated || !strings.Contains(body, "audit.example.com/prod") {
		t.Fatalf("status %d: %s", status, body)
	}
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	c.Origin = "" // it keeps its name
	s = run(t, c)
	if again := token(t, c); again != secret {
		t.Error("the second start has made another token")
	}
	want := []string{"LedgerCreated", "LedgerStarted", "TokenCreated", "IssueCreated", "LedgerStopped", "LedgerStarted"}
	if got := s.types(secret); !slices.Equal(got, want) {
		t.Errorf("recorded %v, want %v", got, want)
	}
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	vkey, err := os.ReadFile(filepath.Join(c.Data, "keys", "ledger.vkey"))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		t.Fatal(err)
	}
	report, err := filestore.Verify(t.Context(), c.Data, verify.Options{Keys: []note.Verifier{verifier}})
	if err != nil || !report.OK() || !report.Authenticated || report.Origin != "audit.example.com/prod" {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestTheFirstTokenIsTheAdministratorsAlone(t *testing.T) {
	c := config(t)
	s := run(t, c)
	for _, name := range []string{datadir.AdminTokenFile, "tokens.json", "keys/ledger.key", "tip", "index.db"} {
		info, err := os.Stat(filepath.Join(c.Data, name))
		if err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if info, err := os.Stat(c.Data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the directory: %v, %v", info.Mode(), err)
	}
	status, body := s.do(http.MethodGet, "/api/v1/tokens", token(t, c), "")
	if status != http.StatusOK || !strings.Contains(body, `"name":"admin","role":"superadmin"`) {
		t.Errorf("status %d: %s", status, body)
	}
	if status, body := s.do(http.MethodGet, "/api/v1/tokens", "", ""); status != http.StatusUnauthorized {
		t.Errorf("without a token: status %d: %s", status, body)
	}
}

func TestWithoutAnOriginOneIsMadeUp(t *testing.T) {
	seen := map[string]bool{}
	for range 2 {
		c := config(t)
		s := run(t, c)
		_, checkpoint := s.do(http.MethodGet, "/log/checkpoint", token(t, c), "")
		origin, _, _ := strings.Cut(checkpoint, "\n")
		if seen[origin] || !strings.HasPrefix(origin, "graven.local/") {
			t.Errorf("origin %q", origin)
		}
		seen[origin] = true
	}
}

func TestASecondServerOnADirectoryIsRefused(t *testing.T) {
	c := config(t)
	s := run(t, c)
	before := s.types(token(t, c))
	if _, err := try(c); !errors.Is(err, seglog.ErrLocked) {
		t.Errorf("got %v", err)
	}
	if after := s.types(token(t, c)); len(after) != len(before) {
		t.Errorf("the attempt was recorded: %v", after)
	}
}

// onlyFirstPool leaves of a ledger its keys and the first pool.
func onlyFirstPool(dir string) error {
	log := filepath.Join(dir, "log", seglog.SegmentName(0))
	data, err := os.ReadFile(log)
	if err != nil {
		return err
	}
	origin := []byte("\n\n\u2014 audit.example.com/prod ") // before a checkpoint's signature
	at := bytes.Index(data, origin) + len(origin)
	at += bytes.IndexByte(data[at:], '\n') + 1
	if err := onlyKeys(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(log), 0o700); err != nil {
		return err
	}
	return os.WriteFile(log, data[:at], 0o600)
}

func TestALedgerWithoutItsKeyIsNotOpened(t *testing.T) {
	for name, tt := range map[string]struct {
		harm func(c *app.Config) error
		says string
	}{
		"another origin":                              {func(c *app.Config) error { c.Origin = "other.example.com/prod"; return nil }, "a ledger keeps its name"},
		"the keys are gone":                           {func(c *app.Config) error { return os.RemoveAll(filepath.Join(c.Data, "keys")) }, "bring back"},
		"the signing key is gone":                     {func(c *app.Config) error { return os.Remove(filepath.Join(c.Data, "keys", "ledger.key")) }, "bring back"},
		"the public key is gone":                      {func(c *app.Config) error { return os.Remove(filepath.Join(c.Data, "keys", "ledger.vkey")) }, "ledger.vkey"},
		"all but the keys is gone":                    {func(c *app.Config) error { return onlyKeys(c.Data) }, "bring back"},
		"all but the keys and the first pool is gone": {func(c *app.Config) error { return onlyFirstPool(c.Data) }, "the tip record"},
		"the signing key is rubbish": {func(c *app.Config) error {
			return os.WriteFile(filepath.Join(c.Data, "keys", "ledger.key"), []byte("x"), 0o600)
		}, "signing key"},
		"the keys are another's":      {func(c *app.Config) error { return foreign(c, "ledger.key", "ledger.vkey") }, ""},
		"the public key is another's": {func(c *app.Config) error { return foreign(c, "ledger.vkey") }, "not that of the signing key"},
		"the tokens are rubbish": {func(c *app.Config) error {
			return os.WriteFile(filepath.Join(c.Data, "tokens.json"), []byte("x"), 0o600)
		}, "tokens.json"},
		"the data directory is a file": {func(c *app.Config) error { c.Data = filepath.Join(c.Data, "tip"); return nil }, "data directory"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			c.Origin = "audit.example.com/prod"
			s := run(t, c)
			secret := token(t, c)
			if err := s.halt(); err != nil {
				t.Fatal(err)
			}
			good := c
			kept := filepath.Join(t.TempDir(), "kept")
			if err := os.CopyFS(kept, os.DirFS(c.Data)); err != nil {
				t.Fatal(err)
			}
			if err := tt.harm(&c); err != nil {
				t.Fatal(err)
			}
			if a, err := try(c); err == nil {
				a.Stop(context.Background())
				t.Fatal("it was opened")
			} else if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %v", err)
			}
			// The refusal has harmed nothing.
			for _, sub := range []string{"keys", "tokens.json", "log", "tip"} {
				if err := errors.Join(os.RemoveAll(filepath.Join(good.Data, sub)), restore(kept, good.Data, sub)); err != nil {
					t.Fatal(err)
				}
			}
			if types := run(t, good).types(secret); len(types) != 5 {
				t.Errorf("with everything back it has %v", types)
			}
		})
	}
}

// onlyKeys removes everything from a data directory but its keys.
func onlyKeys(dir string) error {
	names, err := os.ReadDir(dir)
	for _, n := range names {
		if n.Name() != "keys" {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, n.Name())))
		}
	}
	return err
}

// foreign replaces files of a ledger's keys by those of another ledger.
func foreign(c *app.Config, names ...string) error {
	other := app.Config{Data: c.Data + "-other", Listen: "127.0.0.1:0", Origin: c.Origin, SegmentSize: 1 << 20}
	a, err := try(other)
	if err != nil {
		return err
	}
	if err := a.Stop(context.Background()); err != nil {
		return err
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(other.Data, "keys", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(c.Data, "keys", name), text, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// restore copies what is called sub from one directory to another.
func restore(from, to, sub string) error {
	info, err := os.Stat(filepath.Join(from, sub))
	if err != nil {
		return err
	}
	if info.IsDir() {
		return os.CopyFS(filepath.Join(to, sub), os.DirFS(filepath.Join(from, sub)))
	}
	text, err := os.ReadFile(filepath.Join(from, sub))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, sub), text, 0o600)
}

func TestAnOlderCopyIsNotServed(t *testing.T) {
	c := config(t)
	c.TipFile = filepath.Join(t.TempDir(), "tip")
	s := run(t, c)
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	older := filepath.Join(t.TempDir(), "older")
	if err := os.CopyFS(older, os.DirFS(c.Data)); err != nil {
		t.Fatal(err)
	}
	s = run(t, c)
	if status, body := s.do(http.MethodPost, "/api/v1/audit/events", token(t, c), native); status != http.StatusCreated {
		t.Fatalf("status %d: %s", status, body)
	}
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	c.Data = older
	if _, err := try(c); !errors.Is(err, filestore.ErrTip) {
		t.Errorf("got %v", err)
	}
}

// A failed start leaves nothing behind that would be in the way of the next.
func TestAStartThatFailsLetsGoOfEverything(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c := config(t)
	c.Listen = taken.Addr().String()
	if _, err := try(c); err == nil || !strings.Contains(err.Error(), "listen") {
		t.Errorf("on a port that is taken: %v", err)
	}
	c.Listen = "127.0.0.1:0"
	c.TLSCert, c.TLSKey = "nowhere.pem", "nowhere.key"
	if _, err := try(c); err == nil || !strings.Contains(err.Error(), "tlsCert") {
		t.Errorf("with a certificate that is not there: %v", err)
	}
	c.TLSCert, c.TLSKey = "", ""
	s := run(t, c)
	if status, body := s.do(http.MethodGet, "/readyz", "", ""); status != http.StatusOK {
		t.Errorf("status %d: %s", status, body)
	}
}

// certificate makes a certificate for this machine, and returns its files and
// who trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	cert, key = filepath.Join(t.TempDir(), "tls.crt"), filepath.Join(t.TempDir(), "tls.key")
	return cert, key, testenv.Certificate(t, cert, key, 1)
}

func TestAServerSpeaksTLS(t *testing.T) {
	for _, version2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("HTTP/2 %v", version2), func(t *testing.T) {
			c := config(t)
			var pool *x509.CertPool
			c.TLSCert, c.TLSKey, pool = certificate(t)
			s := run(t, c)
			s.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: version2}
			if !strings.HasPrefix(s.app.URL(), "https://") {
				t.Errorf("the URL is %s", s.app.URL())
			}
			if status, body := s.do(http.MethodPost, "/api/v1/audit/events", token(t, c), native); status != http.StatusCreated {
				t.Errorf("status %d: %s", status, body)
			}
			if got := s.types(token(t, c)); len(got) != 4 {
				t.Errorf("recorded %v", got)
			}
			resp, err := http.Get("http://" + s.app.Addr() + "/healthz")
			if err == nil {
				resp.Body.Close()
			}
			if err == nil && resp.StatusCode == http.StatusOK {
				t.Error("it speaks plain HTTP, too")
			}
			old := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11}}}
			if resp, err := old.Get(s.app.URL() + "/healthz"); err == nil {
				resp.Body.Close()
				t.Error("it speaks TLS 1.1")
			}
		})
	}
}

func TestTheAddressWithoutTLSIsForCallersWithoutATokenAndTheOtherIsNot(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	c := config(t)
	var pool *x509.CertPool
	c.TLSCert, c.TLSKey, pool = certificate(t)
	c.AnonymousRole, c.PlainListen = "viewer", free.Addr().String()
	s := run(t, c)
	s.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}
	for _, tt := range []struct {
		base, header string
		status       int
	}{
		{"http://" + c.PlainListen, "", http.StatusOK},
		{"http://" + c.PlainListen, "Authorization", http.StatusUnauthorized},
		{"http://" + c.PlainListen, "X-API-Key", http.StatusUnauthorized},
		{s.app.URL(), "", http.StatusUnauthorized},
		{s.app.URL(), "X-API-Key", http.StatusOK},
	} {
		req, err := http.NewRequest(http.MethodGet, tt.base+"/api/v1/audit", nil)
		if err != nil {
			t.Fatal(err)
		}
		if tt.header != "" {
			req.Header.Set(tt.header, map[bool]string{true: "Bearer "}[tt.header == "Authorization"]+token(t, c))
		}
		resp, err := s.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if want := map[bool]int{true: 2, false: 1}[resp.TLS != nil]; resp.ProtoMajor != want {
			t.Errorf("%s speaks %s", tt.base, resp.Proto)
		}
		if resp.StatusCode != tt.status {
			t.Errorf("%s with %q: status %d, want %d", tt.base, tt.header, resp.StatusCode, tt.status)
		}
	}
	if err := s.halt(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", c.PlainListen); err == nil {
		t.Error("the address is open after the server has ended")
	}
}

func TestAServerOnAllAddressesNamesOneThatWorks(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", ":0"} {
		c := config(t)
		c.Listen = listen
		s := run(t, c)
		if status, _ := s.do(http.MethodGet, "/healthz", "", ""); status != http.StatusOK || !strings.HasPrefix(s.app.URL(), "http://127.0.0.1:") {
			t.Errorf("%s: status %d at %s", listen, status, s.app.URL())
		}
	}
}

func TestMetricsTellOfTheLedger(t *testing.T) {
	c := config(t)
	s := run(t, c)
	secret := token(t, c)
	s.do(http.MethodPost, "/api/v1/audit/events", secret, native)
	_, text := s.do(http.MethodGet, "/metrics", secret, "")
	for _, want := range []string{"graven_ledger_size 4\n", "graven_ledger_events_total 4\n", "graven_ledger_stopped 0\n", "graven_ledger_pool_events_count 4\n",
		"graven_ledger_commit_seconds_bucket{", "graven_ledger_bytes_total ", "graven_index_lag_entries ", "graven_http_requests_total{", "go_goroutines "} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestStoppingEndsStreamsAndRecordsTheRest(t *testing.T) {
	c := config(t)
	s := run(t, c)
	secret := token(t, c)
	req, err := http.NewRequest(http.MethodGet, s.app.URL()+"/api/v1/audit/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 5 {
		s.types(secret)
	}
	if err := s.halt(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	s = run(t, c)
	_, body := s.do(http.MethodGet, "/api/v1/audit?order=asc&access=true", secret, "")
	reads, stopped := strings.LastIndex(body, `"count":4`), strings.Index(body, `"eventType":"LedgerStopped"`)
	if reads < 0 || stopped < reads {
		t.Errorf("the reads that were counted are not recorded before the end: %s", body)
	}
}

func TestStoppingDoesNotWaitForEver(t *testing.T) {
	c := config(t)
	c.ShutdownTimeout = 50 * time.Millisecond
	s := run(t, c)
	conn, err := net.Dial("tcp", s.app.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /api/v1/audit/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", token(t, c)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(line, "100") { // the server waits for the body
		t.Fatalf("%q, %v", line, err)
	}
	if err := s.halt(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
	s = run(t, c) // everything was let go of
	if got := s.types(token(t, c)); got[len(got)-1] != "LedgerStarted" {
		t.Errorf("recorded %v", got)
	}
}

func TestAServerMayBeStoppedTwiceAndWithoutHavingRun(t *testing.T) {
	c := config(t)
	a, err := try(c)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if types := run(t, c).types(token(t, c)); !slices.Equal(types, []string{"LedgerCreated", "LedgerStarted", "TokenCreated", "LedgerStopped", "LedgerStarted"}) {
		t.Errorf("recorded %v", types)
	}
}

func TestRecoveringTellsHowFarItHasCome(t *testing.T) {
	c := config(t)
	s := run(t, c)
	secret := token(t, c)
	for range 5 {
		s.do(http.MethodPost, "/api/v1/audit/events", secret, native)
	}
	if err := s.halt(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"index.db", "index.db-wal", "index.db-shm"} {
		if err := os.Remove(filepath.Join(c.Data, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	var last int64
	a, err := app.New(t.Context(), c, "test", slog.New(slog.DiscardHandler), func(done, total int64) {
		if last = done; total != 9 {
			t.Errorf("%d of %d", done, total)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Stop(t.Context()); err != nil || last != 9 {
		t.Errorf("told of %d, %v", last, err)
	}
}

func TestSettingsThatWereChangedAreRecordedByName(t *testing.T) {
	c := config(t)
	restart := func() {
		t.Helper()
		if err := run(t, c).halt(); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	restart()
	c.Retention.Every, c.StrictTypes = time.Hour, true
	restart()
	if err := os.WriteFile(filepath.Join(c.Data, "settings.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.StrictTypes = false // which nobody can tell any more
	s := run(t, c)
	_, body := s.do(http.MethodGet, "/api/v1/audit?type=LedgerConfigChanged", token(t, c), "")
	if n := strings.Count(body, `"eventType":"LedgerConfigChanged"`); n != 1 || !strings.Contains(body, `"changedKeys":"retention.every, strictTypes"`) {
		t.Errorf("%d are recorded: %s", n, body)
	}
	if strings.Contains(body, "1h") {
		t.Error("a value is told")
	}
}

func TestAServerFindsWhatIsWrong(t *testing.T) {
	c := config(t)
	c.Findings = app.Findings{Rules: []finding.Rule{{Name: "issue-created", Title: "An issue was created", When: `event.eventType == "IssueCreated"`, Severity: "low"}}}
	s := run(t, c)
	secret := token(t, c)
	if status, body := s.do(http.MethodPost, "/api/v1/audit/events", secret, native); status != http.StatusCreated {
		t.Fatalf("status %d: %s", status, body)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		status, body := s.do(http.MethodGet, "/api/v1/findings?rule=issue-created", secret, "")
		if strings.Contains(body, `"total":1`) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("status %d: %s", status, body)
		}
	}
	if _, body := s.do(http.MethodGet, "/metrics", secret, ""); !strings.Contains(body, `graven_findings_opened_total{rule="issue-created",severity="low"} 1`) {
		t.Error("the metric does not tell of it")
	}
	c.Findings.Rules[0].When = "event.what"
	if _, err := try(c); err == nil || !strings.Contains(err.Error(), `findings.rules: rule "issue-created": when:`) {
		t.Errorf("a rule that cannot be read: %v", err)
	}
}

func TestAServerMakesTheReportsOfItsConfiguration(t *testing.T) {
	c := config(t)
	dir := t.TempDir()
	c.Compliance.Reports = []reporter.Schedule{{Name: "always", Cron: "* * * * *", Formats: []string{"csv"}, Directory: dir}}
	run(t, c)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		files, err := filepath.Glob(filepath.Join(dir, "always-*.csv"))
		if err != nil {
			t.Fatal(err)
		}
		if len(files) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no report")
		}
	}
	for want, change := range map[string]func(*app.Config){
		"compliance.reports[0]: schedule: ": func(c *app.Config) {
			c.Compliance.Reports = []reporter.Schedule{{Name: "x", Cron: "no", Directory: dir}}
		},
		"compliance.reports[1]: name: always stands twice": func(c *app.Config) {
			c.Compliance.Reports = append(slices.Clone(c.Compliance.Reports), c.Compliance.Reports[0])
		},
		"compliance: targets[0].severity: ": func(c *app.Config) { c.Compliance.Targets = []reporter.Target{{Severity: "bad"}} },
		"verifyEvery: ":                     func(c *app.Config) { c.VerifyEvery = -1 },
	} {
		bad := config(t)
		bad.Compliance = c.Compliance
		change(&bad)
		if _, err := try(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}
