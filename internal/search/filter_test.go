package search_test

import (
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/search"
)

var now = time.Date(2026, 3, 20, 12, 0, 0, 0, time.UTC)

func date(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestParametersSetTheFilter(t *testing.T) {
	for _, tt := range []struct {
		param, value string
		want         search.Filter
	}{
		{"type", "IssueCreated", search.Filter{Types: []string{"IssueCreated"}}},
		{"type", "issue_created, my.type ,", search.Filter{Types: []string{"IssueCreated", "my.type"}}},
		{"event_type", "issue_created", search.Filter{Types: []string{"IssueCreated"}}},
		{"category", "a,b", search.Filter{Categories: []string{"a", "b"}}},
		{"event_category", "a", search.Filter{Categories: []string{"a"}}},
		{"severity", "HIGH,warning", search.Filter{Severities: []string{"high", "medium"}}},
		{"outcome", "ok,Failed", search.Filter{Outcomes: []string{"success", "failure"}}},
		{"event_outcome", "pending", search.Filter{Outcomes: []string{"pending"}}},
		{"actor", "a,b", search.Filter{Actor: "a,b"}},
		{"actor_id", "john@company.com", search.Filter{Actor: "john@company.com"}},
		{"correlation_id", "inc-1", search.Filter{CorrelationID: "inc-1"}},
		{"correlationId", "inc-1", search.Filter{CorrelationID: "inc-1"}},
		{"correlationID", "inc-1", search.Filter{CorrelationID: "inc-1"}},
		{"correlation-id", "inc-1", search.Filter{CorrelationID: "inc-1"}},
		{"namespace", "production", search.Filter{Namespace: "production"}},
		{"kind", "Issue", search.Filter{Kind: "Issue"}},
		{"resource_type", "Issue", search.Filter{Kind: "Issue"}},
		{"resource", "issue-1", search.Filter{Resource: "issue-1"}},
		{"resource_id", "issue-1", search.Filter{Resource: "issue-1"}},
		{"cluster", "east", search.Filter{Cluster: "east"}},
		{"cluster_id", "east", search.Filter{Cluster: "east"}},
		{"q", " text ", search.Filter{Text: " text "}},
		{"detail_key", "k", search.Filter{DetailKey: "k"}},
		{"detail_value", "v", search.Filter{DetailValue: "v"}},
		{"detail_value", "", search.Filter{}},
		{"from", "2026-03-19T14:30:00.5+02:00", search.Filter{From: date("2026-03-19T12:30:00.5Z")}},
		{"since", "36h", search.Filter{From: date("2026-03-19T00:00:00Z")}},
		{"to", "2026-03-19", search.Filter{To: date("2026-03-19T23:59:59.999999999Z")}},
		{"until", "1d", search.Filter{To: date("2026-03-19T12:00:00Z")}},
		{"access", "true", search.Filter{Access: true}},
		{"access", "0", search.Filter{}},
	} {
		var f search.Filter
		known, err := f.Set(tt.param, tt.value, now)
		if !known || err != nil || !reflect.DeepEqual(f, tt.want) {
			t.Errorf("%s=%s gives %+v, want %+v (known %v, %v)", tt.param, tt.value, f, tt.want, known, err)
		}
	}
}

func TestBadValuesAreRefusedAndNamed(t *testing.T) {
	for _, tt := range []struct{ param, value, says string }{
		{"type", "", "empty"}, {"type", " , ,", "empty"}, {"actor", "", "empty"}, {"severity", ",", "empty"}, {"from", "", "empty"}, {"q", " ", "empty"}, {"access", "", "empty"},
		{"actor", strings.Repeat("x", 513), "limit is 512"}, {"event_type", strings.Repeat("x", 513), "limit is 512"},
		{"actor", "a\x00", "NUL"}, {"q", "\xff", "UTF-8"},
		{"severity", "loud", `"loud" is unknown`}, {"severity", "high,loud", `"loud" is unknown`}, {"event_outcome", "maybe", `"maybe" is unknown`},
		{"from", "yesterday", "neither a time"}, {"since", "-1h", "neither a time"}, {"to", "2026-02-30", "neither a time"}, {"until", "2026-03-19T14:30:00", "neither a time"},
		{"access", "perhaps", "neither true nor false"},
	} {
		var f search.Filter
		known, err := f.Set(tt.param, tt.value, now)
		var p *search.ParamError
		if !known || !errors.As(err, &p) || p.Param != tt.param || !strings.Contains(p.Reason, tt.says) {
			t.Errorf("%s=%.20s: known %v, %v, want %s", tt.param, tt.value, known, err, tt.says)
		}
	}
}

func TestUnknownParametersAreNobodys(t *testing.T) {
	for _, param := range []string{"", "Type", "limit", "actorName", "types", "event_action", "x", strings.Repeat("x", 1000)} {
		var f search.Filter
		if known, err := f.Set(param, strings.Repeat("x", 1000), now); known || err != nil || !reflect.DeepEqual(f, search.Filter{}) {
			t.Errorf("%.20q: known %v, %v, %+v", param, known, err, f)
		}
		if search.Canonical(param) != param {
			t.Errorf("%.20q is canonically %s", param, search.Canonical(param))
		}
	}
}

func TestTheFiltersPartsMustAgree(t *testing.T) {
	for _, tt := range []struct {
		name  string
		f     search.Filter
		param string
	}{
		{"nothing", search.Filter{}, ""},
		{"a moment", search.Filter{From: now, To: now}, ""},
		{"from alone", search.Filter{From: now}, ""},
		{"from after to", search.Filter{From: now.Add(1), To: now}, "from"},
		{"a key alone", search.Filter{DetailKey: "k"}, "detail_value"},
		{"a value alone", search.Filter{DetailValue: "v"}, "detail_key"},
	} {
		var p *search.ParamError
		if err := tt.f.Check(); errors.As(err, &p) != (tt.param != "") || p != nil && p.Param != tt.param {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestAFilterIsWhatItsParametersGive(t *testing.T) {
	for _, f := range []search.Filter{
		{},
		{Types: []string{"IssueCreated", "my.type"}, Categories: []string{"a", "b"}, Severities: []string{"high", "medium"}, Outcomes: []string{"success"}},
		{Actor: "a,b", CorrelationID: "c", Namespace: "n", Kind: "k", Resource: "r", Cluster: "x", Text: "t", DetailKey: "k", DetailValue: "v"},
		{From: date("2026-03-19T12:30:00.123456789Z"), To: date("2026-03-20T00:00:00Z"), Access: true},
	} {
		var again search.Filter
		for param, value := range f.Params() {
			if known, err := again.Set(param, value, now); !known || err != nil {
				t.Errorf("%s=%s: %v", param, value, err)
			}
		}
		if !reflect.DeepEqual(again, f) {
			t.Errorf("went %+v, came %+v", f, again)
		}
	}
	scoped := search.Filter{Actor: "a", Scope: []string{"x", "y"}}
	if want := map[string]string{"actor": "a", "scope": "x,y"}; !maps.Equal(scoped.Params(), want) {
		t.Errorf("got %v, want %v", scoped.Params(), want)
	}
	if nothing := (&search.Filter{Scope: []string{}}).Params(); !maps.Equal(nothing, map[string]string{"scope": ""}) {
		t.Errorf("a scope of nothing gives %v", nothing)
	}
}

func TestOnlyAFilterOfNothingAsksForAll(t *testing.T) {
	for _, tt := range []struct {
		name        string
		f           search.Filter
		all, access bool
	}{
		{"nothing", search.Filter{}, true, false},
		{"who read what, too", search.Filter{Access: true}, true, true},
		{"an actor", search.Filter{Actor: "a"}, false, false},
		{"a scope", search.Filter{Scope: []string{"x"}}, false, false},
		{"a scope of nothing", search.Filter{Scope: []string{}}, false, false},
		{"a scope, and who read what", search.Filter{Scope: []string{}, Access: true}, false, true},
		{"a time", search.Filter{To: now}, false, false},
		{"an access type", search.Filter{Types: []string{"AuditRead"}}, false, true},
		{"another of the ledger's own", search.Filter{Types: []string{"LedgerCreated"}}, false, false},
	} {
		if tt.f.All() != tt.all || tt.f.WithAccess() != tt.access {
			t.Errorf("%s: all %v, access %v", tt.name, tt.f.All(), tt.f.WithAccess())
		}
	}
}

// told is an event with something of everything.
func told(t *testing.T) *event.Event {
	t.Helper()
	e := &event.Event{
		ID: event.DeriveID("told"), EventType: "IssueCreated", Timestamp: date("2026-03-19T12:00:00.5Z"), Category: "detection", Severity: "high", Outcome: "success",
		Actor: event.Actor{Type: "user", Name: "alice"}, Resource: event.Resource{Kind: "Issue", Namespace: "production", Name: `say "hi"`}, CorrelationID: "inc-1", Cluster: "east",
	}
	if err := e.SetDetails(map[string]any{"text": "a \"b\" <c>", "n": 7, "f": 1.5, "yes": true, "none": nil, "list": []int{1, 2}, "obj": map[string]int{"x": 1}, "empty": ""}); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestMatchIsTheMeaningOfAFilter(t *testing.T) {
	e := told(t)
	for _, tt := range []struct {
		name string
		f    search.Filter
		want bool
	}{
		{"nothing", search.Filter{}, true},
		{"one of two types", search.Filter{Types: []string{"x", "IssueCreated"}}, true},
		{"another type", search.Filter{Types: []string{"IssueResolved"}}, false},
		{"category", search.Filter{Categories: []string{"detection"}}, true},
		{"another category", search.Filter{Categories: []string{"Detection"}}, false},
		{"severity", search.Filter{Severities: []string{"low", "high"}}, true},
		{"another severity", search.Filter{Severities: []string{"low"}}, false},
		{"outcome", search.Filter{Outcomes: []string{"success"}}, true},
		{"another outcome", search.Filter{Outcomes: []string{"failure"}}, false},
		{"actor", search.Filter{Actor: "alice"}, true},
		{"a part of the actor", search.Filter{Actor: "ali"}, false},
		{"incident", search.Filter{CorrelationID: "inc-1"}, true},
		{"another incident", search.Filter{CorrelationID: "inc-2"}, false},
		{"namespace", search.Filter{Namespace: "production"}, true},
		{"another namespace", search.Filter{Namespace: "staging"}, false},
		{"kind and resource", search.Filter{Kind: "Issue", Resource: `say "hi"`}, true},
		{"kind and another resource", search.Filter{Kind: "Issue", Resource: "x"}, false},
		{"cluster", search.Filter{Cluster: "east"}, true},
		{"another cluster", search.Filter{Cluster: "west"}, false},
		{"from its very moment", search.Filter{From: e.Timestamp}, true},
		{"from a nanosecond later", search.Filter{From: e.Timestamp.Add(1)}, false},
		{"to its very moment", search.Filter{To: e.Timestamp}, true},
		{"to a nanosecond before", search.Filter{To: e.Timestamp.Add(-1)}, false},
		{"text in another case", search.Filter{Text: "ALICE"}, true},
		{"text with quotes", search.Filter{Text: `say "hi"`}, true},
		{"text with quotes in a detail", search.Filter{Text: `A "B" <C>`}, true},
		{"text as JSON has it", search.Filter{Text: `"kind":"issue"`}, true},
		{"text that is not there", search.Filter{Text: "bob"}, false},
		{"a text detail", search.Filter{DetailKey: "text", DetailValue: `a "b" <c>`}, true},
		{"a text detail in another case", search.Filter{DetailKey: "text", DetailValue: `A "B" <C>`}, false},
		{"a number", search.Filter{DetailKey: "n", DetailValue: "7"}, true},
		{"a number, written otherwise", search.Filter{DetailKey: "n", DetailValue: "7.0"}, false},
		{"a fraction", search.Filter{DetailKey: "f", DetailValue: "1.5"}, true},
		{"true", search.Filter{DetailKey: "yes", DetailValue: "true"}, true},
		{"null", search.Filter{DetailKey: "none", DetailValue: "null"}, true},
		{"a list", search.Filter{DetailKey: "list", DetailValue: "[1,2]"}, true},
		{"an object", search.Filter{DetailKey: "obj", DetailValue: `{"x":1}`}, true},
		{"an empty text", search.Filter{DetailKey: "empty"}, true},
		{"a text that is not empty", search.Filter{DetailKey: "text"}, false},
		{"a member that is not there", search.Filter{DetailKey: "x", DetailValue: "null"}, false},
		{"a scope", search.Filter{Scope: []string{"staging", "production"}}, true},
		{"another scope", search.Filter{Scope: []string{"staging"}}, false},
		{"a scope of nothing", search.Filter{Scope: []string{}}, false},
		{"a scope against what is asked for", search.Filter{Scope: []string{"staging"}, Namespace: "production"}, false},
		{"all but one", search.Filter{Types: []string{"IssueCreated"}, Actor: "alice", Cluster: "west"}, false},
	} {
		if got := tt.f.Match(e); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	bare := &event.Event{EventType: "x"}
	if f := (search.Filter{DetailKey: "k"}); f.Match(bare) {
		t.Error("an event without details has one")
	}
}

func TestEventsThatTellOfReadingMustBeAskedFor(t *testing.T) {
	read, created := &event.Event{EventType: "AuditRead"}, &event.Event{EventType: "LedgerCreated"}
	for _, tt := range []struct {
		name          string
		f             search.Filter
		read, created bool
	}{
		{"nothing", search.Filter{}, false, true},
		{"asked for", search.Filter{Access: true}, true, true},
		{"asked for by type", search.Filter{Types: []string{"AuditRead"}}, true, false},
		{"another asked for by type", search.Filter{Types: []string{"AuditExported"}}, false, false},
		{"both types", search.Filter{Types: []string{"AuditRead", "LedgerCreated"}}, true, true},
	} {
		if tt.f.Match(read) != tt.read || tt.f.Match(created) != tt.created {
			t.Errorf("%s: %v, %v", tt.name, tt.f.Match(read), tt.f.Match(created))
		}
	}
}

func TestTimesAreReadInThreeForms(t *testing.T) {
	for _, tt := range []struct {
		s, from, to string
	}{
		{"2026-03-19T14:30:00Z", "2026-03-19T14:30:00Z", "2026-03-19T14:30:00Z"},
		{"2026-03-19T14:30:00.000000001-01:00", "2026-03-19T15:30:00.000000001Z", "2026-03-19T15:30:00.000000001Z"},
		{"2026-03-19", "2026-03-19T00:00:00Z", "2026-03-19T23:59:59.999999999Z"},
		{"2024-02-29", "2024-02-29T00:00:00Z", "2024-02-29T23:59:59.999999999Z"},
		{"0001-01-01", "0001-01-01T00:00:00Z", "0001-01-01T23:59:59.999999999Z"},
		{"9999-12-31", "9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999999999Z"},
		{"90m", "2026-03-20T10:30:00Z", "2026-03-20T10:30:00Z"},
		{"24h", "2026-03-19T12:00:00Z", "2026-03-19T12:00:00Z"},
		{"7d", "2026-03-13T12:00:00Z", "2026-03-13T12:00:00Z"},
		{"1.5d", "2026-03-19T00:00:00Z", "2026-03-19T00:00:00Z"},
		{"2w", "2026-03-06T12:00:00Z", "2026-03-06T12:00:00Z"},
		{"1h30m", "2026-03-20T10:30:00Z", "2026-03-20T10:30:00Z"},
		{"0s", "2026-03-20T12:00:00Z", "2026-03-20T12:00:00Z"},
		{"0d", "2026-03-20T12:00:00Z", "2026-03-20T12:00:00Z"},
	} {
		from, err := search.ParseTime(tt.s, now, false)
		if err != nil || !from.Equal(date(tt.from)) || from.Location() != time.UTC {
			t.Errorf("%s begins at %s, want %s (%v)", tt.s, from, tt.from, err)
		}
		if to, err := search.ParseTime(tt.s, now, true); err != nil || !to.Equal(date(tt.to)) {
			t.Errorf("%s ends at %s, want %s (%v)", tt.s, to, tt.to, err)
		}
	}
	for _, s := range []string{"", " ", "d", "w", "-1d", "-1h", "NaNd", "infd", "1e9d", "99999999d", "9999999999h", "7", "7 d", "d7", "2026-3-19", "19.03.2026", "2026-13-01", "2026-03-19 14:30:00", "2026-03-19T14:30Z",
		"2026-03-19T14:30:00", "2026-03-19T25:00:00Z", "now", "yesterday", "1773930600", strings.Repeat("9", 500) + "d"} {
		if at, err := search.ParseTime(s, now, false); err == nil {
			t.Errorf("%.30q is %s", s, at)
		} else if len(err.Error()) > 300 {
			t.Errorf("%.30q gives an error of %d bytes", s, len(err.Error()))
		}
	}
}
