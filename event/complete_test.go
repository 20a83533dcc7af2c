package event_test

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

var (
	severities = map[string]string{
		"critical": "critical", "crit": "critical", "fatal": "critical", "emergency": "critical",
		"high": "high", "error": "high", "err": "high", "alert": "high",
		"medium": "medium", "warning": "medium", "warn": "medium", "moderate": "medium",
		"low": "low", "notice": "low",
		"info": "info", "informational": "info", "information": "info", "debug": "info",
	}
	outcomes = map[string]string{
		"success": "success", "succeeded": "success", "ok": "success", "completed": "success", "passed": "success",
		"failure": "failure", "failed": "failure", "error": "failure", "denied": "failure", "rejected": "failure",
		"pending": "pending", "in_progress": "pending", "running": "pending", "started": "pending",
		"unknown": "unknown",
	}
	actorTypes = map[string]string{
		"system": "system", "controller": "controller", "operator": "controller",
		"service": "service", "serviceaccount": "service", "external": "service", "agent": "service", "ai": "service",
		"user": "user", "human": "user", "person": "user",
	}
)

func TestAliasesBecomeTermsAndAreKept(t *testing.T) {
	for field, terms := range map[string]map[string]string{"severity": severities, "outcome": outcomes, "actor.type": actorTypes} {
		for alias, term := range terms {
			for _, word := range []string{alias, strings.ToUpper(alias), strings.ToUpper(alias[:1]) + alias[1:]} {
				e := complete(t, with(t, minimal, field, `"`+word+`"`))
				got := map[string]string{"severity": e.Severity, "outcome": e.Outcome, "actor.type": e.Actor.Type}[field]
				if got != term {
					t.Errorf("%s %s: got %s, want %s", field, word, got, term)
				}
				want := word
				if word == term {
					want = ""
				}
				if e.Original[field] != want {
					t.Errorf("%s %s: kept %q, want %q", field, word, e.Original[field], want)
				}
			}
		}
	}
	for word, term := range severities {
		if got, ok := event.Severity(strings.ToUpper(word)); !ok || got != term {
			t.Errorf("severity %s is %s, %v", word, got, ok)
		}
	}
	for word, term := range outcomes {
		if got, ok := event.Outcome(strings.ToUpper(word)); !ok || got != term {
			t.Errorf("outcome %s is %s, %v", word, got, ok)
		}
	}
	for _, word := range []string{"", "loud", " high"} {
		if got, ok := event.Severity(word); ok || got != "" {
			t.Errorf("severity %q is %s", word, got)
		}
		if got, ok := event.Outcome(word); ok || got != "" {
			t.Errorf("outcome %q is %s", word, got)
		}
	}
}

func TestEventTypesAreKnownByTheirAliases(t *testing.T) {
	for _, typ := range event.Types() {
		for _, alias := range append([]string{typ.Type}, typ.Aliases...) {
			e := &event.Event{EventType: alias, Timestamp: now}
			e.Complete(now)
			kept := alias
			if alias == typ.Type {
				kept = ""
			}
			if e.EventType != typ.Type || e.Original["eventType"] != kept || e.Recorded.Uncatalogued {
				t.Errorf("%s: got %s, kept %q, uncatalogued %v", alias, e.EventType, e.Original["eventType"], e.Recorded.Uncatalogued)
			}
			if event.CanonicalType(alias) != typ.Type {
				t.Errorf("%s is canonically %s", alias, event.CanonicalType(alias))
			}
		}
	}
}

func TestWhatTheCallerLeftOutIsFilledIn(t *testing.T) {
	for _, tt := range []struct {
		name, in                            string
		category, action, outcome, severity string
		uncatalogued                        bool
	}{
		{"from the catalogue", minimal, "detection", "created", "success", "medium", false},
		{"from the catalogue, under an alias", with(t, minimal, "eventType", `"approval_requested"`), "governance", "requested", "pending", "medium", false},
		{"for a type outside the catalogue", with(t, minimal, "eventType", `"billing.invoice.paid"`), "other", "paid", "unknown", "info", true},
		{"for a type with a path", with(t, minimal, "eventType", `"acme.com/billing:paid"`), "other", "paid", "unknown", "info", true},
		{"for a type of one word", with(t, minimal, "eventType", `"paid"`), "other", "paid", "unknown", "info", true},
		{"not over what the caller said", full, "remediation", "executed", "success", "high", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := complete(t, tt.in)
			got := []string{e.Category, e.Action, e.Outcome, e.Severity}
			want := []string{tt.category, tt.action, tt.outcome, tt.severity}
			if strings.Join(got, " ") != strings.Join(want, " ") || e.Recorded.Uncatalogued != tt.uncatalogued {
				t.Errorf("got %v, uncatalogued %v", got, e.Recorded.Uncatalogued)
			}
		})
	}
	e := complete(t, minimal)
	if e.RetentionDays != 2555 || complete(t, full).RetentionDays != 90 {
		t.Errorf("retention %d days", e.RetentionDays)
	}
	if minted, ok := e.ID.Time(); !ok || !minted.Equal(now) {
		t.Errorf("id %s was minted at %s", e.ID, minted)
	}
	if !strings.HasPrefix(e.Name, "audit-1773930600-") {
		t.Errorf("name %s", e.Name)
	}
	if f := complete(t, full); f.ID.String() != "019310a2-7a3c-7000-8000-000000000001" || f.Name != "audit-1710858600-a7f3b2" {
		t.Errorf("id %s, name %s", f.ID, f.Name)
	}
}

func TestCompletingTwiceChangesNothing(t *testing.T) {
	e := complete(t, with(t, with(t, full, "severity", `"warning"`), "eventType", `"remediation_started"`))
	once := string(e.AppendJSON(nil))
	e.Complete(now.Add(time.Hour))
	if twice := string(e.AppendJSON(nil)); twice != once {
		t.Errorf("once  %s\ntwice %s", once, twice)
	}
}

func TestTheCallersFirstWordsAreKept(t *testing.T) {
	e := complete(t, with(t, full, "severity", `"err"`)) // and original says error
	if want := map[string]string{"severity": "error"}; !maps.Equal(e.Original, want) {
		t.Errorf("got %v, want %v", e.Original, want)
	}
}

func TestATimeThatIsTooFarAheadBecomesNow(t *testing.T) {
	now := time.Date(2026, 3, 19, 12, 0, 0, 0, time.UTC)
	for ahead, want := range map[time.Duration]string{-time.Hour: "", event.MaxFuture: "", event.MaxFuture + 1: "2026-03-19T13:00:00.000000001Z"} {
		e := &event.Event{Timestamp: now.Add(ahead)}
		e.ClampTimestamp(now)
		if e.Original["timestamp"] != want || want != "" && !e.Timestamp.Equal(now) {
			t.Errorf("%v ahead: %v, %v", ahead, e.Timestamp, e.Original)
		}
	}
}

func TestAnEventThatGetsAnotherIdKeepsItsOwnWhereThereIsRoom(t *testing.T) {
	own, other := event.DeriveID("own"), event.DeriveID("other")
	for name, test := range map[string]struct {
		had  event.ID
		kept map[string]string
		want string
	}{
		"the first":                 {own, nil, own.String()},
		"what is kept already":      {own, map[string]string{"id": "inc-1"}, "inc-1"},
		"where there is no room":    {own, map[string]string{"spec": strings.Repeat("a", event.MaxOriginal-20)}, ""},
		"where there was no id yet": {event.ID{}, nil, ""},
	} {
		e := event.Event{ID: test.had, Original: test.kept}
		if e.Rename(other); e.ID != other || e.Original["id"] != test.want {
			t.Errorf("%s: %s, %v", name, e.ID, e.Original["id"])
		}
	}
}
