package search_test

import (
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
)

// FuzzFilter sets one parameter after another. A filter that is accepted says
// in its parameters what it is, and can be matched.
func FuzzFilter(f *testing.F) {
	for _, s := range [][2]string{{"type", "IssueCreated,x"}, {"severity", "high"}, {"from", "2026-03-19T14:30:00Z"}, {"since", "24h"}, {"until", "2026-03-19"},
		{"detail_key", "a"}, {"detail_value", "1"}, {"q", "\x1b"}, {"correlation-id", "inc"}, {"access", "true"}, {"outcome", "success"}, {"namespace", "é"}} {
		f.Add(s[0], s[1], "actor", "a")
	}
	now := time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)
	e := &event.Event{EventType: "IssueCreated", Timestamp: now, Actor: event.Actor{Type: "user", Name: "a"}, Resource: event.Resource{Kind: "Issue"}, Details: []byte(`{"a":1}`)}
	f.Fuzz(func(t *testing.T, p1, v1, p2, v2 string) {
		var filter search.Filter
		for _, p := range [][2]string{{p1, v1}, {p2, v2}} {
			if _, err := filter.Set(p[0], p[1], now); err != nil {
				var at *search.ParamError
				if !errors.As(err, &at) || at.Param != p[0] {
					t.Fatalf("%v does not name %s", err, p[0])
				}
				return
			}
		}
		if filter.Check() != nil {
			return
		}
		filter.Match(e)
		var again search.Filter
		for name, value := range filter.Params() {
			if known, err := again.Set(name, value, now); !known || err != nil {
				t.Fatalf("%s=%q is not taken back: %v, %v", name, value, known, err)
			}
		}
		if filter.Match(e) != again.Match(e) {
			t.Errorf("%v matches otherwise than %v", again.Params(), filter.Params())
		}
	})
}

func FuzzPage(f *testing.F) {
	for _, s := range [][2]string{{"limit", "10"}, {"offset", "5"}, {"cursor", "7"}, {"order", "asc"}, {"cursor", "-1"}, {"limit", "1e3"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, param, value string) {
		p := search.Page{Limit: 1, Cursor: -1}
		known, err := p.Set(param, value, 1000)
		var at *search.ParamError
		if err != nil && (!errors.As(err, &at) || at.Param != param) {
			t.Fatalf("%v does not name %s", err, param)
		}
		if err != nil || !known {
			return
		}
		if p.Limit < 1 || p.Limit > 1000 || p.Offset < 0 || p.Cursor < -1 {
			t.Errorf("%s=%q gives %+v", param, value, p)
		}
		n, isNumber := new(big.Int).SetString(value, 10)
		for name, got := range map[string]int64{"limit": int64(p.Limit), "offset": p.Offset, "cursor": p.Cursor} {
			if name == param && (!isNumber || !n.IsInt64() || n.Int64() != got) {
				t.Errorf("%s=%q gives %d", param, value, got)
			}
		}
	})
}
