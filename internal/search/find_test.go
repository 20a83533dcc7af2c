package search_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// A memory is an index and the records that it leads to. As an index may, it
// also finds entries that do not match: every one whose index extra divides.
type memory struct {
	records []trail.Record
	events  []*event.Event
	extra   int64
	ready   int64         // entries that can be found
	pause   time.Duration // that reading a record takes
	fail    error
}

func newMemory(t *testing.T, events ...*event.Event) *memory {
	t.Helper()
	m := &memory{ready: int64(len(events))}
	for i, e := range events {
		e.Complete(now)
		var salt event.Salt
		m.records = append(m.records, trail.Record{Index: int64(i), Entry: e.AppendEntry(nil, e.Digests(salt)), Erasable: e.AppendErasable(nil)})
		m.events = append(m.events, e)
	}
	return m
}

func (m *memory) finder() *search.Finder { return &search.Finder{Index: m, Reader: m} }

func (m *memory) Ready(ctx context.Context, size int64) error {
	if m.ready < size {
		<-ctx.Done()
		return ctx.Err()
	}
	return m.fail
}

func (m *memory) Select(_ context.Context, f *search.Filter, r search.Range, oldest bool, limit int, offset int64) ([]int64, error) {
	if limit > 512 {
		return nil, fmt.Errorf("%d candidates asked for at a time", limit)
	}
	// What an index does not know of, it cannot sort out.
	known := *f
	known.Text, known.DetailKey, known.DetailValue = "", "", ""
	var found []int64
	for i := max(0, r.First); i < min(r.End, m.ready); i++ {
		if known.Match(m.events[i]) || m.extra > 0 && i%m.extra == 0 {
			found = append(found, i)
		}
	}
	if !oldest {
		slices.Reverse(found)
	}
	found = found[min(offset, int64(len(found))):]
	return found[:min(limit, len(found))], nil
}

func (m *memory) Count(ctx context.Context, f *search.Filter, r search.Range) (int64, error) {
	n := int64(0)
	for i := r.First; i < min(r.End, m.ready); i++ {
		if f.Match(m.events[i]) {
			n++
		}
	}
	return n, nil
}

func (m *memory) Record(_ context.Context, index int64) (trail.Record, error) {
	time.Sleep(m.pause)
	if index < 0 || index >= int64(len(m.records)) {
		return trail.Record{}, errors.New("no such record")
	}
	return m.records[index], nil
}

func (m *memory) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	panic("not used by a Finder")
}

// many returns n events, every third of which is of the kind asked for.
func many(t *testing.T, n int) *memory {
	t.Helper()
	var list []*event.Event
	for i := range n {
		e := &event.Event{ID: event.DeriveID(fmt.Sprint(i)), EventType: "IssueCreated", Timestamp: now, Actor: event.Actor{Type: "user", Name: "a"}, Resource: event.Resource{Kind: []string{"Issue", "Pod", "Node"}[i%3], Name: fmt.Sprint(i)}}
		list = append(list, e)
	}
	return newMemory(t, list...)
}

func indexes(a *search.Answer) (list []int64) {
	for _, h := range a.Hits {
		list = append(list, h.Record.Index)
	}
	return list
}

func TestPagesFollowEachOtherByCursorAndByOffset(t *testing.T) {
	const n = 1600
	m := many(t, n)
	x := m.finder()
	for _, extra := range []int64{0, 7} {
		for _, f := range []search.Filter{{Kind: "Pod"}, {Kind: "Pod", Text: "pod"}, {Text: `"kind":"pod"`}} {
			for _, oldest := range []bool{true, false} {
				for _, limit := range []int{10, 512, 1000} {
					m.extra = extra
					var want []int64
					for i := int64(1); i < n; i += 3 {
						want = append(want, i)
					}
					if !oldest {
						slices.Reverse(want)
					}
					name := fmt.Sprintf("%v, extra %d, oldest first %v, limit %d", f.Params(), extra, oldest, limit)
					if limit == 10 {
						want = want[:30]
					}
					var got []int64
					for p := (search.Page{Limit: limit, Cursor: -1, Oldest: oldest}); len(got) < len(want); {
						a, err := x.Page(t.Context(), &f, p, n)
						if err != nil {
							t.Fatal(err)
						}
						if a.Total != 533 || len(a.Hits) > limit {
							t.Fatalf("%s: total %d, %d hits", name, a.Total, len(a.Hits))
						}
						got = append(got, indexes(a)...)
						if a.Next == "" {
							break
						}
						if known, err := p.Set("cursor", a.Next, 1000); !known || err != nil {
							t.Fatal(err)
						}
					}
					if !slices.Equal(got, want) {
						t.Errorf("%s: by cursor %v", name, got)
					}
					if extra > 0 && f.Text == "" {
						continue // an index's false candidates shift offsets
					}
					a, err := x.Page(t.Context(), &f, search.Page{Limit: 10, Offset: 5, Cursor: -1, Oldest: oldest}, n)
					if err != nil || !slices.Equal(indexes(a), want[5:15]) {
						t.Errorf("%s: by offset %v, %v", name, indexes(a), err)
					}
				}
			}
		}
	}
}

func TestCursorsAtTheEndsFindNothingMore(t *testing.T) {
	x := many(t, 30).finder()
	for _, p := range []search.Page{
		{Limit: 10, Cursor: 0}, {Limit: 10, Cursor: 29, Oldest: true}, {Limit: 10, Cursor: 1 << 62, Oldest: true}, {Limit: 10, Cursor: 1<<63 - 1, Oldest: true},
		{Limit: 10, Cursor: -1, Offset: 30}, {Limit: 10, Cursor: -1, Offset: 1<<63 - 1},
	} {
		a, err := x.Page(t.Context(), &search.Filter{}, p, 30)
		if err != nil || len(a.Hits) != 0 || a.Next != "" || a.Total != 30 {
			t.Errorf("%+v: %v, %v", p, indexes(a), err)
		}
	}
	if a, err := x.Page(t.Context(), &search.Filter{}, search.Page{Limit: 5, Cursor: 1000}, 30); err != nil || !slices.Equal(indexes(a), []int64{29, 28, 27, 26, 25}) {
		t.Errorf("before a cursor past the end: %v, %v", indexes(a), err)
	}
}

func TestAPageIsAsOfASize(t *testing.T) {
	x := many(t, 30).finder()
	a, err := x.Page(t.Context(), &search.Filter{}, search.Page{Limit: 10, Cursor: -1}, 12)
	if err != nil || a.Total != 12 || indexes(a)[0] != 11 {
		t.Errorf("total %d, %v, %v", a.Total, indexes(a), err)
	}
}

func TestAPageOfLargeEventsEndsEarly(t *testing.T) {
	var list []*event.Event
	for i := range 100 {
		e := &event.Event{ID: event.DeriveID(fmt.Sprint(i)), EventType: "x", Timestamp: now, Actor: event.Actor{Type: "user", Name: "a"}, Resource: event.Resource{Kind: "k"}}
		if err := e.SetDetails(map[string]string{"text": strings.Repeat("x", 250<<10)}); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	x := newMemory(t, list...).finder()
	seen := 0
	for p := (search.Page{Limit: 1000, Cursor: -1}); ; {
		a, err := x.Page(t.Context(), &search.Filter{}, p, 100)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, h := range a.Hits {
			size += len(h.Record.Erasable)
		}
		if size > 17<<20 || len(a.Hits) == 0 {
			t.Fatalf("%d events of %d bytes", len(a.Hits), size)
		}
		if seen += len(a.Hits); a.Next == "" {
			break
		}
		if _, err := p.Set("cursor", a.Next, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if seen != 100 {
		t.Errorf("%d events in all parts", seen)
	}
}

func TestEachGoesThroughAllThatMatchInOrder(t *testing.T) {
	m := many(t, 1600)
	m.extra = 5
	var got []int64
	err := m.finder().Each(t.Context(), &search.Filter{Kind: "Pod"}, search.Range{First: 100, End: 1500}, func(h search.Hit) error {
		if h.Event.Resource.Kind != "Pod" {
			t.Errorf("entry %d is of another kind", h.Record.Index)
		}
		got = append(got, h.Record.Index)
		return nil
	})
	if err != nil || len(got) != 467 || got[0] != 100 || got[466] != 1498 || !slices.IsSorted(got) {
		t.Errorf("%d, %v", len(got), err)
	}
	stop := errors.New("enough")
	n := 0
	if err := m.finder().Each(t.Context(), &search.Filter{}, search.Range{End: 1600}, func(search.Hit) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
		t.Errorf("%v after %d", err, n)
	}
}

func TestAQuestionWaitsForTheIndexForFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := many(t, 10)
		m.ready = 9
		began := time.Now()
		_, err := m.finder().Page(t.Context(), &search.Filter{}, search.Page{Limit: 1, Cursor: -1}, 10)
		if took := time.Since(began); !errors.Is(err, search.ErrNotReady) || took != 5*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		if err := m.finder().Each(t.Context(), &search.Filter{}, search.Range{End: 10}, nil); !errors.Is(err, search.ErrNotReady) {
			t.Errorf("each: %v", err)
		}
		m.ready, m.fail = 10, errors.New("disk")
		if err := m.finder().Ready(t.Context(), 10); !errors.Is(err, search.ErrNotReady) || !errors.Is(err, m.fail) {
			t.Errorf("an index that cannot follow: %v", err)
		}
	})
}

func TestAQuestionThatLooksThroughTooManyIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := many(t, 600)
		m.pause = 50 * time.Millisecond // 30 s for all
		began := time.Now()
		_, err := m.finder().Page(t.Context(), &search.Filter{Text: "x"}, search.Page{Limit: 1, Cursor: -1}, 600)
		if took := time.Since(began); !errors.Is(err, search.ErrTooBroad) || took > 31*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		if _, err := m.finder().Page(t.Context(), &search.Filter{Text: "x", From: now.Add(1)}, search.Page{Limit: 1, Cursor: -1}, 600); err != nil {
			t.Errorf("narrowed down: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		m.pause = 3 * time.Second
		if _, err := m.finder().Page(ctx, &search.Filter{Text: "x"}, search.Page{Limit: 1, Cursor: -1}, 600); errors.Is(err, search.ErrTooBroad) {
			t.Errorf("a caller who has gone: %v", err)
		}
	})
}

func TestPageParameters(t *testing.T) {
	for _, tt := range []struct {
		param, value string
		want         search.Page
		bad          bool
	}{
		{"limit", "1", search.Page{Limit: 1}, false},
		{"limit", "1000", search.Page{Limit: 1000}, false},
		{"limit", "1001", search.Page{}, true},
		{"limit", "0", search.Page{}, true},
		{"limit", "-1", search.Page{}, true},
		{"limit", "", search.Page{}, true},
		{"limit", "ten", search.Page{}, true},
		{"limit", "99999999999999999999", search.Page{}, true},
		{"offset", "0", search.Page{}, false},
		{"offset", "9223372036854775807", search.Page{Offset: 1<<63 - 1}, false},
		{"offset", "9223372036854775808", search.Page{}, true},
		{"offset", "-1", search.Page{}, true},
		{"cursor", "7", search.Page{Cursor: 7}, false},
		{"cursor", "-1", search.Page{}, true},
		{"cursor", "x", search.Page{}, true},
		{"order", "asc", search.Page{Oldest: true}, false},
		{"order", "oldest", search.Page{Oldest: true}, false},
		{"order", "desc", search.Page{}, false},
		{"order", "newest", search.Page{}, false},
		{"order", "DESC", search.Page{}, true},
		{"order", "", search.Page{}, true},
	} {
		var p search.Page
		known, err := p.Set(tt.param, tt.value, 1000)
		var bad *search.ParamError
		if !known || errors.As(err, &bad) != tt.bad || p != tt.want || bad != nil && bad.Param != tt.param {
			t.Errorf("%s=%s: %+v, %v", tt.param, tt.value, p, err)
		}
	}
	var p search.Page
	if known, err := p.Set("severity", "x", 1000); known || err != nil {
		t.Error("severity is not the page's")
	}
}
