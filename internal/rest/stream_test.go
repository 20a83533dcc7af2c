package rest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/rest"
)

// A tail reads a stream of events.
type tail struct {
	t      *testing.T
	resp   *http.Response
	r      *bufio.Reader
	cancel context.CancelFunc
}

// A streamed is an event of a stream.
type streamed struct {
	index int64
	event *event.Event
}

// stream opens a stream; last is the header Last-Event-ID.
func (d *door) stream(t *testing.T, c *caller, query, last string) *tail {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL+"/api/v1/audit/stream"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.secret)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := d.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("status %d, type %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	return &tail{t: t, resp: resp, r: bufio.NewReader(resp.Body), cancel: cancel}
}

// next returns the next event, or the error that ends the stream.
func (s *tail) next() (streamed, error) {
	var e streamed
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return e, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch name {
		case "id":
			if e.index, err = strconv.ParseInt(value, 10, 64); err != nil {
				return e, err
			}
		case "event":
			if value != "audit" {
				return e, fmt.Errorf("an event of type %q", value)
			}
		case "data":
			if err := checkStreamed(s.t, value); err != nil {
				return e, err
			}
			if e.event, err = event.ParseServed([]byte(value)); err != nil {
				return e, err
			}
		case "":
			if e.event != nil {
				return e, nil
			}
		default:
			return e, fmt.Errorf("a line %q", line)
		}
	}
}

// checkStreamed holds an event's JSON against its schema.
func checkStreamed(t *testing.T, text string) error {
	return theSpec(t).fits(map[string]any{"$ref": "#/components/schemas/Event"}, []byte(text))
}

// until reads n events.
func (s *tail) until(n int) []streamed {
	s.t.Helper()
	list := make([]streamed, n)
	for i := range list {
		e, err := s.next()
		if err != nil {
			s.t.Fatalf("after %d events: %v", i, err)
		}
		list[i] = e
	}
	return list
}

func TestAStreamTellsWhatIsRecordedFromNowOn(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 5)...)
	s := d.stream(t, d.as("viewer"), "", "")
	indexes := d.as("recorder").record(samples(5, 3)...)
	for i, e := range s.until(3) {
		if e.index != indexes[i] || e.event.ID != sample(5+i).ID {
			t.Errorf("event %d: index %d, id %s", i, e.index, e.event.ID)
		}
	}
	// Reading is recorded, and a stream does not tell of it.
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.as("recorder").record(sample(9))
	if e := s.until(1)[0]; e.event.ID != sample(9).ID {
		t.Errorf("got %s", e.event.EventType)
	}
}

func TestAStreamGoesOnBehindTheLastEvent(t *testing.T) {
	d := open(t)
	indexes := d.as("recorder").record(samples(0, 10)...)
	viewer := d.as("viewer")
	for name, tt := range map[string]struct {
		query, header string
		first         int64
	}{
		"from the beginning":           {"?last_event_id=-1", "", 0},
		"from the beginning by header": {"", "-1", 0},
		"behind an event":              {"?last_event_id=" + fmt.Sprint(indexes[3]), "", indexes[4]},
		"behind an event by header":    {"", fmt.Sprint(indexes[3]), indexes[4]},
		// Who comes back sends the header beside the URL that they began with.
		"behind the header's, not the parameter's": {"?last_event_id=-1", fmt.Sprint(indexes[6]), indexes[7]},
	} {
		if e := d.stream(t, viewer, tt.query, tt.header).until(1)[0]; e.index != tt.first {
			t.Errorf("%s: began at %d, want %d", name, e.index, tt.first)
		}
	}
	viewer.get("/api/v1/audit/stream", "Last-Event-ID", "1000").problem(http.StatusBadRequest, "Last-Event-ID", "")
}

func TestAStreamFilters(t *testing.T) {
	d := open(t)
	s := d.stream(t, d.as("auditor"), "?namespace=payments&severity=high", "")
	low := sample(4)
	low.Severity = event.SeverityLow
	d.as("recorder").record(sample(0), sample(1), sample(2), low, sample(7))
	if got := s.until(2); got[0].event.ID != sample(1).ID || got[1].event.ID != sample(7).ID {
		t.Errorf("got %+v", got)
	}
	s = d.stream(t, d.as("auditor"), "?type=AuditVerified", "")
	d.as("viewer").get("/api/v1/audit/verify").want(http.StatusOK)
	if e := s.until(1)[0]; e.event.Recorded.Principal != "viewer" {
		t.Errorf("got %s", e.event.AppendJSON(nil))
	}
	d.as("viewer").get("/api/v1/audit/stream?access=true").problem(http.StatusForbidden, "", "access")
}

// TestReconnectingMissesNothingAndTellsNothingTwice cuts a stream again and
// again while many record.
func TestReconnectingMissesNothingAndTellsNothingTwice(t *testing.T) {
	const writers, each = 8, 40
	d := open(t)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				d.as("recorder").record(sample(w*each + i))
			}
		})
	}
	last := int64(0)
	seen := map[event.ID]int{}
	for len(seen) < writers*each {
		s := d.stream(t, d.as("viewer"), "?type=RemediationExecuted", fmt.Sprint(last))
		for range min(7, writers*each-len(seen)) {
			e, err := s.next()
			if err != nil {
				t.Fatal(err)
			}
			if e.index <= last {
				t.Fatalf("event %d came after %d", e.index, last)
			}
			last = e.index
			seen[e.event.ID]++
		}
		s.cancel()
		s.resp.Body.Close()
	}
	wg.Wait()
	for id, n := range seen {
		if n != 1 {
			t.Errorf("event %s was told %d times", id, n)
		}
	}
}

func TestAStreamEndsWhenTheServerStops(t *testing.T) {
	d := open(t)
	quiet := d.stream(t, d.as("viewer"), "", "")
	d.as("recorder").record(samples(0, 50)...)
	busy := d.stream(t, d.as("viewer"), "?last_event_id=-1", "")
	busy.until(2)
	quiet.until(50)
	d.rest.Stop()
	d.rest.Stop() // twice does no harm
	for name, s := range map[string]*tail{"quiet": quiet, "busy": busy} {
		if _, err := io.Copy(io.Discard, s.r); err != nil {
			t.Errorf("the %s stream did not end well: %v", name, err)
		}
	}
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK) // the rest of the server goes on
}

func TestExportsAndStreamsAreBoundedInNumber(t *testing.T) {
	d := open(t, configured(func(c *rest.Config) { c.MaxExports = 2 }))
	first, second := d.stream(t, d.as("viewer"), "", ""), d.stream(t, d.as("auditor"), "", "")
	d.as("viewer").get("/api/v1/audit/stream").problem(http.StatusServiceUnavailable, "", "busy")
	d.as("viewer").get("/api/v1/audit/export").problem(http.StatusServiceUnavailable, "", "busy")
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK)
	d.await("/api/v1/audit/stream") // the one that was refused
	first.cancel()
	d.await("/api/v1/audit/stream")
	d.as("viewer").get("/api/v1/audit/export").want(http.StatusOK)
	second.cancel()
}

// TestAReaderWhoDoesNotReadIsDropped fills the buffers between the server and
// readers who take nothing.
func TestAReaderWhoDoesNotReadIsDropped(t *testing.T) {
	const many, size = 120, 200 << 10
	d := open(t, echoes(many), configured(func(c *rest.Config) { c.MaxExports, c.WriteTimeout = 1, 200*time.Millisecond }))
	d.as("recorder").record(large(t, 0, 1, size)...)
	for _, path := range []string{"/api/v1/audit/stream?last_event_id=-1", "/api/v1/audit/export", "/api/v1/audit?limit=1000&order=asc"} {
		t.Run(path, func(t *testing.T) {
			conn, err := net.Dial("tcp", d.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, d.secrets["viewer"]); err != nil {
				t.Fatal(err)
			}
			d.await(strings.Split(path, "?")[0]) // although nothing was read
			if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			if n, err := io.Copy(io.Discard, conn); n > many*size || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d bytes came, and then %v", n, err)
			}
		})
	}
	d.as("viewer").do(http.MethodHead, "/api/v1/audit/export", nil).want(http.StatusOK) // their places were given back
}
