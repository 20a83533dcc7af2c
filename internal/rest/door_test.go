package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A door is a server on a ledger of its own, with a token of every role, named
// for it.
type door struct {
	*httptest.Server
	t       *testing.T
	dir     string
	bed     *storetest.Bed
	store   *filestore.Store
	ledger  *ledger.Ledger
	journal *ledger.Journal
	tokens  *access.Tokens
	rest    *rest.Server
	log     *syncBuffer
	secrets map[string]string
	// ended tells the path of each request that the server is done with.
	ended  chan string
	closed bool
	// broken is set by tests that harm the ledger, which is else verified when
	// they end.
	broken bool
}

// A change changes what a door is made of before it opens.
type change struct {
	rest    func(*rest.Config)
	ledger  func(*ledger.Config)
	erasing func(*erasure.Config)
	store   func(rest.Store) rest.Store
}

// beside holds the tests that run beside others.
var beside sync.Map

// open opens a door, and lets the test run beside others: most of its time it
// waits for a disk.
func open(t *testing.T, changes ...change) *door {
	t.Helper()
	if _, ok := beside.LoadOrStore(t, true); !ok {
		t.Parallel()
	}
	return openAlone(t, changes...)
}

// openAlone opens a door for a test that must not run beside others.
func openAlone(t *testing.T, changes ...change) *door {
	t.Helper()
	d := &door{t: t, dir: t.TempDir(), log: &syncBuffer{}, secrets: map[string]string{}, ended: make(chan string, 1<<16)}
	d.bed = storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		return filestore.Open(d.dir, filestore.Options{Verifier: b.Verifier, SegmentSize: 1 << 20})
	})
	store, err := d.bed.Open()
	if err != nil {
		t.Fatal(err)
	}
	d.store = store.(*filestore.Store)
	lc := ledger.Config{Store: d.store, Signer: d.bed.Signer, VerifierKey: d.bed.VerifierKey, Version: "test"}
	for _, c := range changes {
		if c.ledger != nil {
			c.ledger(&lc)
		}
	}
	if d.ledger, err = ledger.Open(t.Context(), lc); err != nil {
		t.Fatal(err)
	}
	d.journal = ledger.NewJournal(d.ledger)
	d.tokens = d.openTokens()
	for _, role := range access.Roles() {
		d.token(access.Token{Name: string(role), Role: role})
	}
	rc := rest.Config{Ledger: d.ledger, Journal: d.journal, Store: d.store, Tokens: d.tokens, Signer: lc.Signer, Key: lc.VerifierKey, Scratch: t.TempDir(), Version: "test",
		Log: slog.New(slog.NewTextHandler(d.log, nil)), Metrics: rest.NewMetrics(prometheus.NewRegistry())}
	policies, err := retention.NewPolicies(nil)
	if err != nil {
		t.Fatal(err)
	}
	ec := erasure.Config{Ledger: d.ledger, Journal: d.journal, Store: d.store, Policies: policies, Confirmations: 1, Clock: erasure.NewSystemClock()}
	for _, c := range changes {
		if c.store != nil {
			rc.Store = c.store(rc.Store)
		}
		if c.rest != nil {
			c.rest(&rc)
		}
		if c.erasing != nil {
			c.erasing(&ec)
		}
	}
	now := time.Now
	if rc.Now != nil {
		now = rc.Now
	}
	rc.Holds = custody.New(d.ledger, d.journal, rc.Store, now)
	ec.Holds = rc.Holds
	rc.Eraser = erasure.New(ec)
	d.rest = rest.New(rc)
	d.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { d.ended <- r.URL.Path }()
		d.rest.ServeHTTP(w, r)
	}))
	d.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	d.Start()
	t.Cleanup(d.close)
	return d
}

// await returns when the server is done with another request for a path.
func (d *door) await(path string) {
	d.t.Helper()
	for timeout := time.After(time.Minute); ; {
		select {
		case ended := <-d.ended:
			if ended == path {
				return
			}
		case <-timeout:
			d.t.Fatalf("the server is not done with %s", path)
		}
	}
}

func (d *door) tokensFile() string { return d.dir + "/tokens.json" }

func (d *door) openTokens() *access.Tokens {
	d.t.Helper()
	tokens, err := access.OpenTokens(d.tokensFile(), func(data []byte) error {
		return seglog.WriteFile(seglog.OS{}, d.tokensFile(), data)
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return tokens
}

// close ends the server, and then holds the ledger against everything that it
// promises.
func (d *door) close() {
	if d.closed {
		return
	}
	d.closed = true
	d.rest.Stop()
	d.Close()
	if err := d.journal.Close(); err != nil && !d.broken {
		d.t.Error(err)
	}
	d.ledger.Close()
	if !d.broken {
		r, err := d.store.Verify(context.Background(), verify.Options{Keys: []note.Verifier{d.bed.Verifier}})
		if err != nil {
			d.t.Error(err)
		} else if !r.OK() {
			d.t.Errorf("the ledger does not verify: %+v", r.Findings)
		}
	}
	if err := d.store.Close(); err != nil && !d.broken {
		d.t.Error(err)
	}
}

// token makes a token valid and returns its bearer.
func (d *door) token(tok access.Token) *caller {
	d.t.Helper()
	secret := access.NewSecret()
	if err := d.tokens.Add(tok, secret, time.Now()); err != nil {
		d.t.Fatal(err)
	}
	d.secrets[tok.Name] = secret
	return d.as(tok.Name)
}

// as returns the bearer of the token of that name; "" bears none.
func (d *door) as(name string) *caller {
	d.t.Helper()
	secret, ok := d.secrets[name]
	if !ok && name != "" {
		d.t.Fatalf("no token %s", name)
	}
	return &caller{d: d, secret: secret}
}

// A caller sends requests.
type caller struct {
	d      *door
	secret string
}

// do sends a request; headers come in pairs of name and value.
func (c *caller) do(method, path string, body io.Reader, headers ...string) *answer {
	c.d.t.Helper()
	req, err := http.NewRequestWithContext(c.d.t.Context(), method, c.d.URL+path, body)
	if err != nil {
		c.d.t.Fatal(err)
	}
	if c.secret != "" {
		req.Header.Set("Authorization", "Bearer "+c.secret)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.d.Client().Do(req)
	if err != nil {
		c.d.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	a := &answer{t: c.d.t, what: method + " " + path, status: resp.StatusCode, header: resp.Header}
	if a.body, a.err = io.ReadAll(resp.Body); len(a.what) > 200 {
		a.what = a.what[:200] + "…"
	}
	if err := theSpec(c.d.t).check(req, a); err != nil {
		c.d.t.Errorf("%s: %v: %.600s", a.what, err, a.body)
	}
	return a
}

func (c *caller) get(path string, headers ...string) *answer {
	c.d.t.Helper()
	return c.do(http.MethodGet, path, nil, headers...)
}

func (c *caller) post(path, body string, headers ...string) *answer {
	c.d.t.Helper()
	return c.do(http.MethodPost, path, strings.NewReader(body), headers...)
}

// record records events that must be accepted, and returns their indexes.
func (c *caller) record(events ...*event.Event) []int64 {
	c.d.t.Helper()
	var body []byte
	for _, e := range events {
		body = append(e.AppendJSON(body), '\n')
	}
	var got struct {
		Items []struct{ Index int64 }
	}
	c.post("/api/v1/audit/events/batch", string(body)).want(http.StatusCreated).into(&got)
	c.d.follow()
	indexes := make([]int64, len(got.Items))
	for i, item := range got.Items {
		indexes[i] = item.Index
	}
	return indexes
}

// follow waits, longer than questions do, until what was recorded can be found.
func (d *door) follow() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	if err := d.store.Wait(ctx, d.ledger.State().Size()); err != nil {
		d.t.Fatal(err)
	}
}

// An answer is what came back.
type answer struct {
	t      *testing.T
	what   string
	status int
	header http.Header
	body   []byte
	err    error // the body broke off
}

// want checks the status, and that the answer is whole.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.err != nil {
		a.t.Fatalf("%s: %v after %d bytes", a.what, a.err, len(a.body))
	}
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %.600s", a.what, a.status, status, a.body)
	}
	return a
}

func (a *answer) into(v any) *answer {
	a.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.t.Fatalf("%s: %v: %.600s", a.what, err, a.body)
	}
	return a
}

// A problem is a problem document.
type problem struct {
	Type, Title, Detail, Param string
	Status                     int
	Errors                     []struct{ Field, Reason string }
}

// problem checks that the answer is a problem document of that status whose
// parameter or first field is about, and which says what, if it is not empty.
func (a *answer) problem(status int, about, says string) problem {
	a.t.Helper()
	a.want(status)
	var p problem
	a.into(&p)
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		a.t.Errorf("%s: a problem of type %s", a.what, got)
	}
	if p.Status != status || p.Title == "" || !strings.HasPrefix(p.Type, "urn:graven:problem:") {
		a.t.Errorf("%s: not a problem document: %s", a.what, a.body)
	}
	if status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "" {
		a.t.Errorf("%s: no Retry-After", a.what)
	}
	named := p.Param
	if len(p.Errors) > 0 {
		named = p.Errors[0].Field
	}
	if named != about || !strings.Contains(string(a.body), says) {
		a.t.Errorf("%s: the problem is about %q, want %q and %q: %.600s", a.what, named, about, says, a.body)
	}
	return p
}

// recorded returns the ledger's events of the given types, or all.
func (d *door) recorded(types ...string) []*event.Event {
	d.t.Helper()
	var list []*event.Event
	err := d.store.Records(d.t.Context(), search.Range{End: d.ledger.State().Size()}, func(r *trail.Record) error {
		e, err := r.Event()
		if err == nil && (len(types) == 0 || slices.Contains(types, e.EventType)) {
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return list
}

// events counts the ledger's events, those aside that tell of reading it.
func (d *door) events() int {
	d.t.Helper()
	n := 0
	for _, e := range d.recorded() {
		if t, ok := event.Lookup(e.EventType); !ok || !t.Access {
			n++
		}
	}
	return n
}

// unchanged checks that fn records nothing, access events aside.
func (d *door) unchanged(fn func()) {
	d.t.Helper()
	before := d.events()
	fn()
	if after := d.events(); after != before {
		d.t.Errorf("the ledger has %d events more", after-before)
	}
}

// detail returns a member of an event's details as text.
func detail(e *event.Event, name string) string {
	var m map[string]any
	if json.Unmarshal(e.Details, &m) != nil || m[name] == nil {
		return ""
	}
	return fmt.Sprint(m[name])
}

// at is when the events of tests happened.
var at = time.Date(2026, 3, 19, 14, 30, 0, 123e6, time.UTC)

// sample returns a valid event that tells of number n; its namespace is n's
// remainder by three.
func sample(n int) *event.Event {
	e := &event.Event{
		ID:            event.DeriveID("rest", fmt.Sprint(n)),
		EventType:     "RemediationExecuted",
		Timestamp:     at.Add(time.Duration(n) * time.Second),
		Actor:         event.Actor{Type: event.ActorController, Name: "remediation-reconciler"},
		Resource:      event.Resource{Kind: "RemediationPlan", Namespace: []string{"production", "payments", "staging"}[n%3], Name: fmt.Sprintf("plan-%d", n)},
		CorrelationID: fmt.Sprintf("inc-%d", n/6),
		Severity:      event.SeverityHigh,
	}
	if err := e.SetDetails(map[string]any{"action": "Rollback", "number": n}); err != nil {
		panic(err)
	}
	return e
}

func samples(first, n int) []*event.Event {
	list := make([]*event.Event, n)
	for i := range list {
		list[i] = sample(first + i)
	}
	return list
}

// large returns events whose details have a text of the given size.
func large(t *testing.T, first, n, size int) []*event.Event {
	t.Helper()
	list := samples(first, n)
	for _, e := range list {
		if err := e.SetDetails(map[string]string{"text": strings.Repeat("x", size)}); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// native and flat are documents that the API takes, of one event each.
const (
	native = `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"controller","name":"issue-reconciler"},"resource":{"kind":"Issue","namespace":"production","name":"issue-1"}}`
	flat   = `{"version":"1.0","event_type":"gateway.signal.received","event_timestamp":"2026-03-19T14:30:00.123456789Z","event_category":"gateway","event_action":"received","event_outcome":"success","correlation_id":"rr-1","event_data":{"fingerprint":"abc"}}`
)

// with returns the document with a member, named by its path, that is the JSON
// text; "" takes it away.
func with(doc, path, text string) string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(doc), &m); err != nil {
		panic(err)
	}
	name, rest, nested := strings.Cut(path, ".")
	if nested {
		inner := "{}"
		if m[name] != nil {
			inner = string(m[name])
		}
		text = with(inner, rest, text)
	}
	if delete(m, name); text != "" {
		m[name] = json.RawMessage(text)
	}
	var members []string
	for _, n := range slices.Sorted(maps.Keys(m)) { // json.Marshal would refuse malformed texts
		quoted, _ := json.Marshal(n)
		members = append(members, string(quoted)+":"+string(m[n]))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// A clock stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// onClock lets a door live by a clock.
func onClock(c *clock) change {
	return change{ledger: func(l *ledger.Config) { l.Now = c.Now }, rest: func(r *rest.Config) { r.Now = c.Now }}
}

// configured changes a door's configuration.
func configured(fn func(*rest.Config)) change { return change{rest: fn} }

// A syncBuffer is a buffer for concurrent writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// strict refuses types outside the catalogue.
var strict = configured(func(c *rest.Config) { c.StrictTypes = true })

// covered checks that a checkpoint of a receipt covers the entry at an index,
// whose leaf hash the receipt tells.
func (d *door) covered(checkpoint string, index int64, leaf string) {
	d.t.Helper()
	cp, err := trail.OpenCheckpoint([]byte(checkpoint), d.bed.Verifier)
	if err != nil {
		d.t.Fatal(err)
	}
	hash, err := trail.ParseHex(leaf)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.Wait(d.t.Context(), cp.Size); err != nil {
		d.t.Fatal(err)
	}
	proof, err := tlog.ProveRecord(cp.Size, index, d.store)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := tlog.CheckRecord(proof, cp.Size, cp.Root, index, hash); err != nil {
		d.t.Errorf("entry %d is not under the receipt's checkpoint: %v", index, err)
	}
}

// An echoStore holds entry 1 many times over.
type echoStore struct {
	rest.Store
	times int64
}

func echoes(times int64) change {
	return change{store: func(s rest.Store) rest.Store { return echoStore{s, times} }}
}

func (s echoStore) Count(context.Context, *search.Filter, search.Range) (int64, error) {
	return s.times, nil
}

func (s echoStore) Select(_ context.Context, _ *search.Filter, r search.Range, _ bool, limit int, _ int64) (found []int64, err error) {
	for i := r.First; i < s.times && len(found) < limit; i++ {
		found = append(found, i)
	}
	return found, nil
}

func (s echoStore) Stored() search.Reader { return s }

func (s echoStore) Record(ctx context.Context, index int64) (trail.Record, error) {
	r, err := s.Store.Record(ctx, 1)
	r.Index = index
	return r, err
}

func (s echoStore) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	for i := r.First; i < s.times; i++ {
		rec, err := s.Record(ctx, i)
		if err == nil {
			err = fn(&rec)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
