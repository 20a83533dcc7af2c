package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

// A ledger is a server in memory: it keeps what it is sent, each id once.
type ledger struct {
	mu sync.Mutex
	// answer, if not nil, answers in place of the ledger, unless it returns nil.
	answer func(events []*event.Event, body []byte) *http.Response
	lose   bool // the next answer
	events []*event.Event
	seen   map[event.ID]bool
	sent   int // requests
}

// RoundTrip implements http.RoundTripper.
func (l *ledger) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	var raw []json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, err
	}
	var events []*event.Event
	for _, text := range raw {
		e, err := event.Parse(text)
		if err != nil {
			return status(http.StatusBadRequest, err.Error(), 0), nil
		}
		events = append(events, e)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent++
	if l.answer != nil {
		if resp := l.answer(events, body); resp != nil {
			return resp, nil
		}
	}
	if l.seen == nil {
		l.seen = map[event.ID]bool{}
	}
	type item struct {
		ID        string `json:"id"`
		Index     int    `json:"index"`
		Duplicate bool   `json:"duplicate"`
		Error     any    `json:"error,omitempty"`
	}
	var items []item
	for _, e := range events {
		it := item{ID: e.ID.String(), Index: len(l.events), Duplicate: l.seen[e.ID]}
		if e.Resource.Name == "refused" {
			it.Error = client.Problem{Title: "The id is taken", Status: http.StatusConflict, Errors: []client.Fault{{Field: "id", Reason: "recorded before"}}}
		} else if !it.Duplicate {
			l.seen[e.ID] = true
			l.events = append(l.events, e)
		}
		items = append(items, it)
	}
	if l.lose {
		l.lose = false
		return nil, io.ErrUnexpectedEOF
	}
	text, err := json.Marshal(map[string]any{"items": items, "checkpoint": "note"})
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(text))}, err
}

// status is an answer that is a problem.
func status(code int, detail string, retryAfter int) *http.Response {
	header := http.Header{"Content-Type": {"application/problem+json"}}
	if retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(retryAfter))
	}
	text := fmt.Sprintf(`{"title":"No","detail":%q,"status":%d}`, detail, code)
	return &http.Response{StatusCode: code, Status: strconv.Itoa(code), Header: header, Body: io.NopCloser(strings.NewReader(text))}
}

// set changes how the ledger answers.
func (l *ledger) set(answer func(events []*event.Event, body []byte) *http.Response) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = answer
}

// names returns the resources' names of what the ledger has, and holds the
// sources' numbers to rise.
func (l *ledger) names(t *testing.T) string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	last := int64(0)
	for _, e := range l.events {
		names = append(names, e.Resource.Name)
		if e.Source.Name != "operator-0" || e.Source.Seq <= last {
			t.Errorf("%s has the source %+v, behind number %d", e.Resource.Name, e.Source, last)
		}
		last = e.Source.Seq
	}
	return strings.Join(names, " ")
}

func record(t testing.TB, l *ledger, c client.RecorderConfig) *client.Recorder {
	t.Helper()
	cl, err := client.New(client.Config{URL: "http://ledger.example", HTTP: &http.Client{Transport: l}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	c.Source = "operator-0"
	r, err := cl.NewRecorder(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func named(name string) *event.Event {
	return &event.Event{EventType: "RemediationExecuted", Timestamp: time.Now(), Actor: event.Actor{Type: event.ActorController, Name: "c"},
		Resource: event.Resource{Kind: "RemediationPlan", Name: name}}
}

func put(t *testing.T, r *client.Recorder, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := r.Record(t.Context(), named(name)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatIsRecordedIsDeliveredInOrderUnderItsNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		r := record(t, l, client.RecorderConfig{})
		put(t, r, "a", "b", "c")
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := l.names(t); got != "a b c" {
			t.Error(got)
		}
		if s := r.Stats(); s.Recorded != 3 || s.Delivered != 3 || s.Pending != 0 || s.Retries != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestATypeOfOnesOwnIsDeliveredAsItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		r := record(t, l, client.RecorderConfig{})
		e := named("a")
		e.EventType = "payments.refund.approved"
		if err := r.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := r.Flush(t.Context()); err != nil || len(l.events) != 1 || l.events[0].EventType != e.EventType {
			t.Errorf("%+v, %v", l.events, err)
		}
	})
}

func TestAnEventThatNobodyWouldTakeIsRefusedAtOnce(t *testing.T) {
	l := &ledger{}
	r := record(t, l, client.RecorderConfig{})
	bad := named("x")
	bad.Actor.Name = ""
	var invalid event.Invalid
	if err := r.Record(t.Context(), bad); !errors.As(err, &invalid) || invalid[0].Field != "actor.name" {
		t.Error(err)
	}
	own := named("x")
	own.EventType = "LedgerCreated"
	if err := r.Record(t.Context(), own); !errors.Is(err, event.ErrReserved) {
		t.Error(err)
	}
	if s := r.Stats(); s.Recorded != 0 || s.Pending != 0 {
		t.Errorf("%+v", s)
	}
}

func TestAServerThatIsAwayIsTriedForHoursAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		away := []func() *http.Response{
			func() *http.Response { return status(http.StatusServiceUnavailable, "busy", 0) },
			func() *http.Response { return status(http.StatusTooManyRequests, "slow", 120) },
			func() *http.Response { return status(http.StatusUnauthorized, "no token", 0) },
			func() *http.Response { return status(http.StatusForbidden, "not you", 0) },
			func() *http.Response { return status(http.StatusNotFound, "nothing here", 0) },
			func() *http.Response { return status(http.StatusInternalServerError, "oh", 0) },
			func() *http.Response {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("<html>"))}
			},
		}
		n := 0
		l.set(func([]*event.Event, []byte) *http.Response { n++; return away[n%len(away)]() })
		r := record(t, l, client.RecorderConfig{})
		put(t, r, "a", "b")
		time.Sleep(5 * time.Hour)
		if s := r.Stats(); s.Pending != 2 || s.Retries < 100 || s.Retries > 2000 || s.Quarantined != 0 {
			t.Errorf("after five hours: %+v", s)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := r.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "2 events are left") {
			t.Error(err)
		}
		put(t, r, "c")
		l.set(nil)
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := l.names(t); got != "a b c" {
			t.Error(got)
		}
	})
}

func TestAServerThatAsksToWaitIsLeftInPeace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		var at []time.Time
		l.set(func([]*event.Event, []byte) *http.Response {
			if at = append(at, time.Now()); len(at) == 1 {
				return status(http.StatusTooManyRequests, "slow", 90)
			}
			return nil
		})
		r := record(t, l, client.RecorderConfig{})
		put(t, r, "a")
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if waited := at[1].Sub(at[0]); len(at) != 2 || waited < 90*time.Second {
			t.Errorf("%d requests, the second after %s", len(at), waited)
		}
	})
}

func TestAServerThatAsksToWaitForYearsIsTriedWithinHours(t *testing.T) {
	for _, seconds := range []int{1 << 32, math.MaxInt} {
		synctest.Test(t, func(t *testing.T) {
			l := &ledger{}
			asked := false
			l.set(func([]*event.Event, []byte) *http.Response {
				if asked {
					return nil
				}
				asked = true
				return status(http.StatusServiceUnavailable, "gone", seconds)
			})
			r := record(t, l, client.RecorderConfig{})
			put(t, r, "a")
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
			defer cancel()
			if err := r.Flush(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}

// A frozen server takes the first request and never answers it.
type frozen struct {
	*ledger
	thawed bool
}

func (f *frozen) RoundTrip(r *http.Request) (*http.Response, error) {
	if !f.thawed {
		f.thawed = true
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return f.ledger.RoundTrip(r)
}

func TestAServerThatNeverAnswersIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		c, err := client.New(client.Config{URL: "http://ledger.example", HTTP: &http.Client{Transport: &frozen{ledger: l}}})
		if err != nil {
			t.Fatal(err)
		}
		var problem error
		r, err := c.NewRecorder(client.RecorderConfig{Dir: t.TempDir(), Source: "operator-0", OnProblem: func(err error) { problem = err }})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		put(t, r, "a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := r.Flush(ctx); err != nil {
			t.Error(err)
		}
		if !errors.Is(problem, context.DeadlineExceeded) {
			t.Errorf("told was %v", problem)
		}
		if got := l.names(t); got != "a" {
			t.Error(got)
		}
	})
}

func TestAnEventThatTheServerFailedAtIsSentAgain(t *testing.T) {
	for _, failure := range []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusTooManyRequests, 0} {
		synctest.Test(t, func(t *testing.T) {
			l, others := &ledger{}, 0
			l.set(func(events []*event.Event, _ []byte) *http.Response {
				l.answer = nil
				items := []string{fmt.Sprintf(`{"error":{"title":"Something went wrong here","status":%d}}`, failure)}
				for _, e := range events[1:] {
					items = append(items, fmt.Sprintf(`{"id":%q}`, e.ID))
				}
				others = len(events) - 1
				return &http.Response{StatusCode: http.StatusMultiStatus, Body: io.NopCloser(strings.NewReader(`{"items":[` + strings.Join(items, ",") + `]}`))}
			})
			r := record(t, l, client.RecorderConfig{})
			put(t, r, "a", "b", "c")
			if err := r.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			if got := len(strings.Fields(l.names(t))); got != 3-others {
				t.Errorf("status %d: %d events are recorded, and %d were before", failure, got, others)
			}
			if s := r.Stats(); s.Delivered != 3 || s.Quarantined != 0 {
				t.Errorf("status %d: %+v", failure, s)
			}
		})
	}
}

func TestALostAnswerDeliversNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{lose: true}
		r := record(t, l, client.RecorderConfig{})
		put(t, r, "a", "b")
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := l.names(t); got != "a b" {
			t.Error(got)
		}
		if s := r.Stats(); s.Delivered != 2 || s.Duplicates == 0 {
			t.Errorf("%+v", s)
		}
	})
}

// refusals returns the lines of a quarantine file.
func refusals(t *testing.T, dir string) (lines []map[string]any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "quarantine.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, v)
	}
	return lines
}

func TestOneBadEventCostsOneEvent(t *testing.T) {
	for name, answer := range map[string]func(events []*event.Event, body []byte) *http.Response{
		"by its own answer": nil,
		"of a batch that is refused": func(events []*event.Event, _ []byte) *http.Response {
			for _, e := range events {
				if e.Resource.Name == "refused" {
					return status(http.StatusBadRequest, "one of them is bad", 0)
				}
			}
			return nil
		},
		"that is too large": func(_ []*event.Event, body []byte) *http.Response {
			if bytes.Contains(body, []byte("refused")) {
				return status(http.StatusRequestEntityTooLarge, "too large", 0)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, dir := &ledger{}, t.TempDir()
				l.set(func([]*event.Event, []byte) *http.Response { return status(http.StatusServiceUnavailable, "", 0) })
				r := record(t, l, client.RecorderConfig{Dir: dir})
				put(t, r, "a", "b", "c", "d", "refused", "e", "f")
				l.set(answer)
				if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "1 events were refused for good") {
					t.Error(err)
				}
				if err := r.Flush(t.Context()); err != nil {
					t.Errorf("it is told twice: %v", err)
				}
				if got := l.names(t); got != "a b c d e f" {
					t.Error(got)
				}
				lines := refusals(t, dir)
				if len(lines) != 1 || lines[0]["number"] != 5.0 || lines[0]["event"].(map[string]any)["resource"].(map[string]any)["name"] != "refused" || lines[0]["reason"] == "" {
					t.Errorf("%v", lines)
				}
				if s := r.Stats(); s.Delivered != 6 || s.Quarantined != 1 || s.Pending != 0 {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

func TestWhatWasNotDeliveredIsByTheNextRecorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dir := &ledger{}, t.TempDir()
		l.set(func([]*event.Event, []byte) *http.Response { return status(http.StatusServiceUnavailable, "", 0) })
		r := record(t, l, client.RecorderConfig{Dir: dir})
		put(t, r, "a", "b")
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if err := r.Record(t.Context(), named("late")); !errors.Is(err, client.ErrClosed) {
			t.Error(err)
		}
		l.set(nil)
		r = record(t, l, client.RecorderConfig{Dir: dir})
		put(t, r, "c")
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := l.names(t); got != "a b c" {
			t.Error(got)
		}
	})
}

func TestWhatIsDamagedInTheSpoolIsKeptAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dir := &ledger{}, t.TempDir()
		l.set(func([]*event.Event, []byte) *http.Response { return status(http.StatusServiceUnavailable, "", 0) })
		r := record(t, l, client.RecorderConfig{Dir: dir})
		put(t, r, "a", "b", "c")
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		segments, err := filepath.Glob(filepath.Join(dir, "queue", "*.seg"))
		if err != nil || len(segments) != 1 {
			t.Fatal(segments, err)
		}
		data, err := os.ReadFile(segments[0])
		if err != nil {
			t.Fatal(err)
		}
		data[bytes.Index(data, []byte(`"name":"b"`))] ^= 1
		if err := os.WriteFile(segments[0], data, 0o600); err != nil {
			t.Fatal(err)
		}
		l.set(nil)
		r = record(t, l, client.RecorderConfig{Dir: dir})
		if err := r.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "1 events") {
			t.Error(err)
		}
		if got := l.names(t); got != "a c" { // and the gap between 1 and 3 shows
			t.Error(got)
		}
		if lines := refusals(t, dir); len(lines) != 1 || !strings.HasPrefix(lines[0]["reason"].(string), "damaged: ") || lines[0]["bytes"] == nil {
			t.Errorf("%v", lines)
		}
	})
}

func TestAFullSpoolBlocksOrRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, onFull := range []client.OnFull{client.Block, client.Refuse} {
			l := &ledger{}
			l.set(func([]*event.Event, []byte) *http.Response { return status(http.StatusServiceUnavailable, "", 0) })
			r := record(t, l, client.RecorderConfig{MaxBytes: 32 << 10, OnFull: onFull})
			n := 0
			var err error
			began := time.Now()
			for ; err == nil; n++ {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				err = r.Record(ctx, named("x"))
				cancel()
			}
			waited := time.Since(began)
			if !errors.Is(err, client.ErrFull) || (waited >= 10*time.Second) != (onFull == client.Block) || r.Stats().Refused != 1 {
				t.Errorf("%s: %v after %s, %+v", onFull, err, waited, r.Stats())
			}
			l.set(nil)
			if err := r.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			if got := len(l.events); got != n-1 {
				t.Errorf("%s: %d events were taken, and %d were delivered", onFull, n-1, got)
			}
			if err := r.Record(t.Context(), named("x")); err != nil && onFull == client.Block {
				t.Error(err)
			}
		}
	})
}

func TestARecorderClosesOnceWhileOthersRecord(t *testing.T) {
	l := &ledger{}
	dir := t.TempDir()
	r := record(t, l, client.RecorderConfig{Dir: dir})
	var taken sync.Map
	var all sync.WaitGroup
	for p := range 8 {
		all.Go(func() {
			for i := range 200 {
				e := named(fmt.Sprintf("%d-%d", p, i))
				if err := r.Record(t.Context(), e); err == nil {
					taken.Store(e.ID, true)
				} else if !errors.Is(err, client.ErrClosed) {
					t.Error(err)
				}
			}
		})
	}
	for range 4 {
		all.Go(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if err := record(t, l, client.RecorderConfig{Dir: dir}).Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	taken.Range(func(id, _ any) bool {
		if !l.seen[id.(event.ID)] {
			t.Errorf("event %s was taken and not delivered", id)
		}
		return true
	})
}

func TestDecisionsAreDurableAtOnceAndTelemetryIsNot(t *testing.T) {
	for eventType, want := range map[string]bool{"ApprovalGranted": true, "RemediationExecuted": true, "IssueCreated": true, "SomethingOfYours": true,
		"aiagent.llm.request": false} {
		e := named("x")
		e.EventType = eventType
		e.Complete(time.Now())
		if got := client.Durable(e); got != want {
			t.Errorf("%s (%s, %s): %v", eventType, e.Category, e.Severity, got)
		}
	}
	urgent := named("x")
	urgent.EventType, urgent.Severity = "aiagent.llm.request", event.SeverityHigh
	urgent.Complete(time.Now())
	if !client.Durable(urgent) {
		t.Error("an event of severity high is not durable")
	}
}

func TestALineOfTheQuarantineThatWasTornIsFollowedByAWholeOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, dir := &ledger{}, t.TempDir()
		path := filepath.Join(dir, "quarantine.ndjson")
		if err := os.WriteFile(path, []byte(`{"number":1,"rea`), 0o600); err != nil {
			t.Fatal(err)
		}
		r := record(t, l, client.RecorderConfig{Dir: dir})
		put(t, r, "refused")
		if err := r.Flush(t.Context()); err == nil {
			t.Error("nothing was refused")
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, whole, _ := strings.Cut(string(data), "\n")
		if !json.Valid([]byte(whole)) || !strings.Contains(whole, `"refused"`) {
			t.Errorf("%s", data)
		}
	})
}

func TestAConfigurationThatCannotBeIsRefused(t *testing.T) {
	cl, err := client.New(client.Config{URL: "http://ledger.example"})
	if err != nil {
		t.Fatal(err)
	}
	for says, c := range map[string]client.RecorderConfig{
		"dir: ":      {},
		"source: ":   {Dir: t.TempDir(), Source: strings.Repeat("x", 600)},
		"onFull: ":   {Dir: t.TempDir(), Source: "s", OnFull: "drop"},
		"maxBytes: ": {Dir: t.TempDir(), Source: "s", MaxBytes: -1},
	} {
		if r, err := cl.NewRecorder(c); err == nil || !strings.HasPrefix(err.Error(), says) {
			t.Errorf("%s: %v %v", says, r, err)
		}
	}
}
