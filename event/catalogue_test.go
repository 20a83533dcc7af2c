package event_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
)

func TestTheCatalogueIsSound(t *testing.T) {
	families := map[string]bool{}
	for _, f := range event.Families() {
		if f.Name == "" || f.Title == "" || !strings.HasSuffix(f.Description, ".") || families[f.Name] {
			t.Errorf("family %+v", f)
		}
		families[f.Name] = false
	}
	names := map[string]string{}
	counts := map[string]int{}
	for _, typ := range event.Types() {
		t.Run(typ.Type, func(t *testing.T) {
			for _, name := range append([]string{typ.Type}, typ.Aliases...) {
				if other, ok := names[name]; ok {
					t.Errorf("%s is a name of %s, too", name, other)
				}
				names[name] = typ.Type
				if got, ok := event.Lookup(name); !ok || got.Type != typ.Type {
					t.Errorf("%s finds %s", name, got.Type)
				}
			}
			if _, ok := families[typ.Family]; !ok {
				t.Errorf("no family %s", typ.Family)
			}
			families[typ.Family] = true
			counts[typ.Family]++
			valid(t, "severity", typ.Severity, event.SeverityCritical, event.SeverityHigh, event.SeverityMedium, event.SeverityLow, event.SeverityInfo)
			valid(t, "outcome", typ.Outcome, event.OutcomeSuccess, event.OutcomeFailure, event.OutcomePending, event.OutcomeUnknown)
			valid(t, "actor.type", typ.Actor.Type, event.ActorSystem, event.ActorController, event.ActorService, event.ActorUser)
			if typ.Category == "" || typ.Action == "" || len(typ.Description) < 30 || !strings.HasSuffix(typ.Description, ".") {
				t.Errorf("incomplete: %+v", typ)
			}
			for _, key := range typ.Required {
				if !slices.Contains(typ.Details, key) {
					t.Errorf("%s is required and no usual key", key)
				}
			}
			if typ.Reserved != (typ.Family == "graven") || typ.Access && !typ.Reserved {
				t.Errorf("reserved %v, access %v", typ.Reserved, typ.Access)
			}
			defaultsPass(t, typ)
		})
	}
	for name, used := range families {
		if !used {
			t.Errorf("family %s has no type", name)
		}
	}
	if counts["chatcli"] != 38 {
		t.Errorf("%d types of ChatCLI, want 38", counts["chatcli"])
	}
}

func valid(t *testing.T, field, s string, terms ...string) {
	t.Helper()
	if !slices.Contains(terms, s) {
		t.Errorf("%s %q", field, s)
	}
}

// defaultsPass checks that an event of that type needs no more than any other.
func defaultsPass(t *testing.T, typ event.Type) {
	t.Helper()
	details := map[string]any{}
	for _, key := range typ.Required {
		details[key] = "x"
	}
	e := &event.Event{EventType: typ.Type, Timestamp: now, Actor: event.Actor{Type: typ.Actor.Type, Name: "a"}, Resource: event.Resource{Kind: "K"}}
	if err := e.SetDetails(details); err != nil {
		t.Fatal(err)
	}
	e.Complete(now)
	if err := e.Validate(now); err != nil {
		t.Error(err)
	}
	if e.Category != typ.Category || e.Action != typ.Action || e.Outcome != typ.Outcome || e.Severity != typ.Severity || e.Recorded.Uncatalogued {
		t.Errorf("defaults differ: %s", e.AppendJSON(nil))
	}
}

func TestTypesAreFoundByTheirExactName(t *testing.T) {
	for _, name := range []string{"", "issuecreated", "ISSUE_CREATED", "IssueCreated ", "Issue"} {
		if typ, ok := event.Lookup(name); ok {
			t.Errorf("%q finds %s", name, typ.Type)
		}
	}
	if got := event.CanonicalType(" my.type "); got != "my.type" {
		t.Errorf("got %q", got)
	}
}

func TestTheCatalogueIsACopy(t *testing.T) {
	types := event.Types()
	types[0].Type = "changed"
	event.Families()[0].Name = "changed"
	if event.Types()[0].Type == "changed" || event.Families()[0].Name == "changed" {
		t.Error("it is not")
	}
	if text, err := json.Marshal(types[1]); err != nil || !json.Valid(text) {
		t.Error(err)
	}
}
