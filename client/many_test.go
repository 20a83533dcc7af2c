package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

func TestManyEventsAreRecordedTogetherOrNotAtAll(t *testing.T) {
	var l ledger
	r := record(t, &l, client.RecorderConfig{MaxBytes: 64 << 10, OnFull: client.Refuse})
	bad, own := named("bad"), named("own")
	bad.Actor.Name, own.EventType = "", "LedgerCreated"
	err := r.RecordMany(t.Context(), named("a"), bad, named("b"), own)
	var wrong client.EventErrors
	if !errors.As(err, &wrong) || len(wrong) != 2 || wrong[0].Index != 1 || wrong[1].Index != 3 {
		t.Fatalf("%v", err)
	}
	if invalid := (event.Invalid)(nil); !errors.As(wrong[0], &invalid) || invalid[0].Field != "actor.name" || !errors.Is(wrong[1], event.ErrReserved) {
		t.Errorf("%v, %v", wrong[0], wrong[1])
	}
	large := named("large")
	if err := large.SetDetails(map[string]any{"x": strings.Repeat("x", 20_000)}); err != nil {
		t.Fatal(err)
	}
	again := large.Clone()
	if err := r.RecordMany(t.Context(), large, again); !errors.Is(err, client.ErrTooLarge) {
		t.Error(err)
	}
	if err := r.RecordMany(t.Context()); err != nil {
		t.Error(err)
	}
	if err := r.RecordMany(t.Context(), named("c"), named("d")); err != nil {
		t.Fatal(err)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, s := l.names(t), r.Stats(); got != "c d" || s.Recorded != 2 {
		t.Errorf("%s, %+v", got, s)
	}
	l.set(away)
	for refused := int64(0); refused == 0; refused = r.Stats().Refused {
		if err := r.RecordMany(t.Context(), named("e"), named("f")); err != nil && !errors.Is(err, client.ErrFull) {
			t.Fatal(err)
		}
	}
	if s := r.Stats(); s.Refused != 2 || s.Pending != s.Recorded-2 {
		t.Errorf("%+v", s)
	}
}

func BenchmarkRecordMany(b *testing.B) {
	for _, n := range []int{1, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := record(b, &ledger{}, client.RecorderConfig{OnFull: client.Block})
			began := time.Now()
			for range b.N {
				events := make([]*event.Event, n)
				for i := range events {
					events[i] = named("x")
				}
				if err := r.RecordMany(b.Context(), events...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/time.Since(began).Seconds(), "events/s")
		})
	}
}

// away is a server that cannot be reached.
func away([]*event.Event, []byte) *http.Response {
	return status(http.StatusServiceUnavailable, "away", 0)
}

func TestNumbersOfEventsThatTheLedgerHadBeforeAreAccountedFor(t *testing.T) {
	var l ledger
	r := record(t, &l, client.RecorderConfig{})
	own := named("own id")
	own.ID = event.NewID(time.Now())
	put(t, r, "a")
	if err := r.RecordMany(t.Context(), own, own.Clone(), own.Clone(), named("b")); err != nil {
		t.Fatal(err)
	}
	if err := r.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.Flush(t.Context()); err != nil { // what the first has told
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.events[len(l.events)-1]
	if len(l.events) != 4 || last.EventType != event.TypeRepeated || last.Resource.Name != "operator-0" || last.Source.Seq != 6 {
		t.Fatalf("%d events, the last is %s", len(l.events), last.AppendJSON(nil))
	}
	if s, err := event.ParseSpan(last.Resource.UID); err != nil || s != (event.Span{Epoch: last.Source.Epoch, From: 3, To: 4}) {
		t.Errorf("%+v, %v", s, err)
	}
}
