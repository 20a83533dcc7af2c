package succession_test

import (
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
)

// predecessor returns one whose newest tip is given.
func predecessor(t testing.TB, newest *int64) *succession.Predecessor {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := trail.SignCheckpoint("a.example", 10, trail.Hash{1}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return succession.New(vkey, c, newest)
}

// entry returns a first entry with the given facts.
func entry(t testing.TB, eventType string, facts any) []byte {
	t.Helper()
	e := &event.Event{EventType: eventType, Timestamp: time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC), ID: event.DeriveID("x", "y"),
		Actor: event.Actor{Type: "system", Name: "graven"}, Resource: event.Resource{Kind: "Ledger", Name: "b.example"}}
	if facts != nil {
		if err := e.SetDetails(facts); err != nil {
			t.Fatal(err)
		}
		e.Ledger, e.Details = e.Details, nil
	}
	e.Complete(e.Timestamp)
	return e.AppendEntry(nil, e.Digests(event.Salt{}))
}

func TestAPredecessorIsReadAsItWasWritten(t *testing.T) {
	for _, newest := range []*int64{nil, new(int64)} {
		if newest != nil {
			*newest = 14
		}
		p := predecessor(t, newest)
		got, err := succession.Parse(entry(t, "LedgerCreated", map[string]any{"created": map[string]any{"origin": "b.example"}, "predecessor": p}))
		if err != nil {
			t.Fatal(err)
		}
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(p)
		if string(a) != string(b) {
			t.Errorf("got %s, want %s", a, b)
		}
	}
	for name, facts := range map[string]any{"no facts": nil, "no predecessor": map[string]any{"created": map[string]any{}}} {
		if p, err := succession.Parse(entry(t, "LedgerCreated", facts)); p != nil || err != nil {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
}

func TestAPredecessorThatContradictsItselfIsRefused(t *testing.T) {
	other := predecessor(t, nil)
	for name, tt := range map[string]struct {
		change func(p *succession.Predecessor)
		says   string
	}{
		"another size":              {func(p *succession.Predecessor) { p.Size++ }, "says something else"},
		"another root":              {func(p *succession.Predecessor) { p.Root[3] ^= 1 }, "says something else"},
		"another origin":            {func(p *succession.Predecessor) { p.Origin = "c.example" }, "says something else"},
		"another key":               {func(p *succession.Predecessor) { p.Key = other.Key }, "checkpoint"},
		"no key":                    {func(p *succession.Predecessor) { p.Key = "" }, "key"},
		"no checkpoint":             {func(p *succession.Predecessor) { p.Checkpoint = "" }, "checkpoint"},
		"a gap before what is lost": {func(p *succession.Predecessor) { p.Lost.First++ }, "does not begin where"},
		"less than nothing is lost": {func(p *succession.Predecessor) { n := p.Size - 1; p.Lost.End = &n }, "does not begin where"},
	} {
		p := predecessor(t, nil)
		tt.change(p)
		if _, err := succession.Parse(entry(t, "LedgerCreated", map[string]any{"predecessor": p})); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
	}
	if _, err := succession.Parse(entry(t, "LedgerStarted", map[string]any{"predecessor": other})); err == nil {
		t.Error("an event of another type has a predecessor")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(entry(f, "LedgerCreated", map[string]any{"predecessor": predecessor(f, nil)}))
	f.Add(entry(f, "LedgerCreated", map[string]any{"predecessor": 1}))
	f.Add(entry(f, "LedgerCreated", nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := succession.Parse(data)
		if err != nil || p == nil {
			return
		}
		if p.Lost.First != p.Size || p.Lost.String() == "" {
			t.Errorf("%+v", p)
		}
		if _, err := succession.Parse(entry(t, "LedgerCreated", map[string]any{"predecessor": p})); err != nil {
			t.Errorf("it does not come back: %v", err)
		}
	})
}
