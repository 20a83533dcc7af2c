package rest_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

// unreliable loses answers, so that what was recorded is sent again.
type unreliable struct {
	mu  sync.Mutex
	rng *rand.Rand
}

// RoundTrip implements http.RoundTripper.
func (u *unreliable) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	u.mu.Lock()
	lost := u.rng.IntN(20) == 0
	u.mu.Unlock()
	if err == nil && lost {
		return nil, fmt.Errorf("lost: %w", resp.Body.Close())
	}
	return resp, err
}

// TestFiftyRecordersThatAreRestartedLeaveNoGap has them lose answers, record ids
// twice, and take events from several goroutines; then one of them loses a part
// of its spool, and another all of it.
func TestFiftyRecordersThatAreRestartedLeaveNoGap(t *testing.T) {
	d := open(t)
	c, err := client.New(client.Config{URL: d.URL, Token: d.as("recorder").secret, HTTP: &http.Client{Transport: &unreliable{rng: rand.New(rand.NewPCG(1, 2))}}})
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	recorder := func(n int) *client.Recorder {
		r, err := c.NewRecorder(client.RecorderConfig{Dir: filepath.Join(home, fmt.Sprint(n)), Source: fmt.Sprint("operator-", n), Heartbeat: time.Hour})
		if err != nil {
			t.Error(err)
		}
		return r
	}
	settle := func(r *client.Recorder) {
		for range 2 { // what the first tells, too
			if err := r.Flush(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	fresh := func() *event.Event {
		e := numbered("", "", 0)
		e.ID, e.Source = event.ID{}, event.Source{}
		return e
	}
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			for range 3 {
				r := recorder(n)
				if r == nil {
					return
				}
				var writers sync.WaitGroup
				for range 2 {
					writers.Go(func() {
						own := fresh()
						own.ID = event.NewID(time.Now())
						for _, events := range [][]*event.Event{{fresh(), own, fresh()}, {own.Clone()}, {fresh()}} {
							if err := r.RecordMany(t.Context(), events...); err != nil {
								t.Error(err)
							}
						}
					})
				}
				writers.Wait()
				if err := r.Close(); err != nil { // whatever is delivered by now
					t.Error(err)
				}
			}
			settle(recorder(n))
		})
	}
	all.Wait()
	viewer := d.as("viewer")
	g := viewer.gaps("")
	if !g.Complete || len(g.Renewed)+len(g.Repeated) > 0 || len(g.Accounted) == 0 {
		t.Errorf("complete %v, %d renewed, %d repeated, %d accounted for, missing: %s", g.Complete, len(g.Renewed), len(g.Repeated), len(g.Accounted), spans(g.Missing))
	}
	if err := os.RemoveAll(filepath.Join(home, "7", "queue")); err != nil {
		t.Fatal(err)
	}
	r := recorder(7)
	if err := r.Record(t.Context(), fresh()); err != nil {
		t.Error(err)
	}
	settle(r)
	if g = viewer.gaps("?source=operator-7"); len(g.Renewed) != 1 || g.Renewed[0].Source != "operator-7" || !g.Complete {
		t.Errorf("a source that lost its spool: %+v", g)
	}

	// The server is away while a segment goes.
	away, err := client.New(client.Config{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, "8")
	r, err = away.NewRecorder(client.RecorderConfig{Dir: dir, Source: "operator-8", MaxBytes: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	for range 60 {
		if err := r.Record(t.Context(), fresh()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	segments, err := filepath.Glob(filepath.Join(dir, "queue", "*.seg"))
	if err != nil || len(segments) < 4 {
		t.Fatalf("%d segments, %v", len(segments), err)
	}
	if err := os.Remove(segments[len(segments)-2]); err != nil {
		t.Fatal(err)
	}
	r = recorder(8)
	if err := r.Flush(t.Context()); err == nil {
		t.Error("what is gone is not told by the recorder")
	}
	settle(r)
	g = viewer.gaps("?source=operator-8")
	if len(g.Missing) != 1 || g.Events() < 2 || g.Missing[0].Behind == nil {
		t.Errorf("a segment that is gone: %+v", g)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "quarantine.ndjson")); err != nil || len(text) == 0 {
		t.Errorf("%s, %v", text, err)
	}
}
