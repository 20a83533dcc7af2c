package rest_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
	"github.com/graven-audit/graven/verify/remote"
)

// openPruned opens a door on a ledger of which the first 256 entries were erased.
// The events before number 300 were recorded a month ago.
func openPruned(t *testing.T) (d *door, before func(index int64) (entry []byte)) {
	t.Helper()
	policies, err := retention.NewPolicies([]retention.Policy{{Name: "all", EntryDays: 20}})
	if err != nil {
		t.Fatal(err)
	}
	var ago atomic.Int64
	ago.Store(int64(30 * 24 * time.Hour))
	d = open(t, change{
		ledger:  func(c *ledger.Config) { c.Now = func() time.Time { return time.Now().Add(-time.Duration(ago.Load())) } },
		erasing: func(c *erasure.Config) { c.Policies = policies },
	})
	recorder := d.as("recorder")
	events := []*event.Event{numbered("edge", "e", 1)}
	for _, n := range []int64{1, 3, 4, 5} {
		events = append(events, numbered("old", "e", n))
	}
	recorder.record(append(events, samples(0, 295)...)...)
	ago.Store(0)
	entries := map[int64][]byte{}
	for _, index := range []int64{3, 100} {
		r, err := d.store.Record(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		entries[index] = r.Entry
	}
	var result erasure.Result
	d.as("superadmin").post("/api/v1/retention/run", "").want(http.StatusOK).into(&result)
	if result.Entries != 256 || result.Left != "" {
		t.Fatalf("%+v", result)
	}
	d.follow()
	return d, func(index int64) []byte { return entries[index] }
}

func TestAnErasedEventIsGoneAndStillProven(t *testing.T) {
	d, before := openPruned(t)
	admin := d.as("superadmin")
	was, _, err := event.ParseEntry(before(3))
	if err != nil {
		t.Fatal(err)
	}
	leaf := trail.LeafHash(before(3))
	scoped := d.token(access.Token{Name: "scoped", Role: access.Superadmin, Namespaces: []string{was.Resource.Namespace}})
	for _, name := range []string{"3", was.ID.String()} {
		path := "/api/v1/audit/events/" + name
		p := admin.get(path).problem(http.StatusGone, "", "all below 256")
		if !strings.HasSuffix(p.Type, ":erased") || !strings.Contains(p.Detail, "the tombstone in entry 30") || !strings.Contains(p.Detail, trail.Hex(leaf)) {
			t.Errorf("%+v", p)
		}
		d.as("viewer").get(path).problem(http.StatusGone, "", "")
		scoped.get(path).problem(http.StatusNotFound, "", "")
		scoped.get(path+"/proof").problem(http.StatusNotFound, "", "")
		a := admin.get(path + "/proof").want(http.StatusOK)
		if got := a.header.Get("Graven-Leaf"); got != trail.Hex(leaf) {
			t.Errorf("the proof is of the leaf %s, not %s", got, trail.Hex(leaf))
		}
		proof, err := trail.ParseProof(a.body)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := proof.Verify(before(3), d.bed.Verifier); err != nil || proof.Index != 3 {
			t.Errorf("entry %d: %v", proof.Index, err)
		}
	}
	admin.post("/api/v1/audit/legal-hold", `{"event":"3","reason":"case 1"}`).problem(http.StatusNotFound, "", "")
	admin.get("/api/v1/audit/events/0").want(http.StatusOK) // it holds the ledger's key
	admin.get("/api/v1/audit/events/256").want(http.StatusOK)
	for _, bundle := range []string{"000", "000.p/7"} {
		admin.get("/log/tile/entries/"+bundle).problem(http.StatusNotFound, "", "the log's minimum index is 256")
	}
	admin.get("/log/tile/entries/001.p/20").want(http.StatusOK)
	if tile := admin.get("/log/tile/0/000").want(http.StatusOK).body; len(tile) != 256*32 || trail.Hash(tile[3*32:4*32]) != leaf {
		t.Error("the tile of what was erased is not the one it was")
	}
}

func TestAnAnswerOverWhatWasErasedSaysSo(t *testing.T) {
	d, _ := openPruned(t)
	admin := d.as("superadmin")
	when := func(ago time.Duration) string {
		return url.QueryEscape(time.Now().Add(-ago).UTC().Format(time.RFC3339))
	}
	const day = 24 * time.Hour
	type erased struct {
		Index          int64
		RecordedBefore time.Time
	}
	for query, told := range map[string]bool{
		"":                         true,
		"actor=nobody":             true,
		"to=" + when(300*day):      true,
		"from=" + when(40*day):     true,
		"from=" + when(29*day):     false,
		"correlation_id=inc-1":     true,
		"limit=1&order=asc":        true,
		"q=plan-3&from=" + when(0): false,
	} {
		var a struct {
			Total       int64
			Events      []struct{ EventType string }
			ErasedBelow *erased
		}
		admin.get("/api/v1/audit?" + query).want(http.StatusOK).into(&a)
		if (a.ErasedBelow != nil) != told || told && (a.ErasedBelow.Index != 256 || time.Since(a.ErasedBelow.RecordedBefore) < 29*day) {
			t.Errorf("%q: %+v", query, a)
		}
		for _, e := range a.Events {
			if e.EventType == "" {
				t.Errorf("%q: what is left of an entry is in the list", query)
			}
		}
		var f struct {
			ErasedBelow *struct{ Index int64 } `json:"erased_below"`
		}
		admin.get("/api/v1/audit/events?" + query).want(http.StatusOK).into(&f)
		if (f.ErasedBelow != nil) != told || told && f.ErasedBelow.Index != 256 {
			t.Errorf("%q, flat: %+v", query, f.ErasedBelow)
		}
		if strings.Contains(query, "order") {
			continue // which an export does not have
		}
		for _, format := range []string{"ndjson", "csv", "cloudevents"} {
			a := admin.get("/api/v1/audit/export?format=" + format + "&" + query).want(http.StatusOK)
			if below := a.header.Get("Graven-Erased-Below"); strings.HasPrefix(below, "256; recorded-before=") != told {
				t.Errorf("%q, exported as %s: %q", query, format, below)
			}
		}
	}
	const says = "the entries below 256, recorded before "
	admin.get("/api/v1/audit/incidents/inc-1").problem(http.StatusNotFound, "", says)
	admin.post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-1"}`).problem(http.StatusNotFound, "", says)
	var story struct {
		Total       int
		ErasedBelow *erased
	}
	admin.get("/api/v1/audit/incidents/inc-41").want(http.StatusOK).into(&story)
	if story.Total != 2 || story.ErasedBelow == nil || story.ErasedBelow.Index != 256 {
		t.Errorf("%+v", story)
	}
	var verdict struct {
		Valid bool `json:"is_valid"`
		Total int  `json:"total_events"`
	}
	admin.post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-41"}`).want(http.StatusOK).into(&verdict)
	if !verdict.Valid || verdict.Total != 2 {
		t.Errorf("%+v", verdict)
	}
	if g := admin.gaps("?source=old"); !g.Complete {
		t.Errorf("what is missing between entries that were erased is told: %+v", g)
	}
	d.as("recorder").record(numbered("edge", "e", 3))
	if got := spans(admin.gaps("?source=edge").Missing); got != "edge/e:2" {
		t.Errorf("missing: %q", got)
	}
	for _, query := range []string{"", "?first=0&last=280", "?first=5&last=6"} {
		var report struct {
			OK     bool
			Pruned int64
			Notes  []string
		}
		admin.get("/api/v1/audit/verify" + query).want(http.StatusOK).into(&report)
		if !report.OK || report.Pruned != 256 || !strings.Contains(strings.Join(report.Notes, "\n"), "their hashes are left") {
			t.Errorf("%q: %+v", query, report)
		}
	}
}

func TestALogWithoutItsErasedEntriesVerifies(t *testing.T) {
	d, _ := openPruned(t)
	log := remote.Log{URL: d.URL + "/log/", Token: d.secrets["superadmin"]}
	r, err := verify.Log(t.Context(), log.URL, log.Fetch, verify.Options{Keys: []note.Verifier{d.bed.Verifier}})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || !r.Authenticated || r.Pruned != 256 || !strings.Contains(strings.Join(r.Notes, "\n"), "256 of the entries below 256 are not served") {
		t.Errorf("%+v", r)
	}
	if r, err = verify.Log(t.Context(), log.URL, log.Fetch, verify.Options{}); err != nil || !r.OK() || r.Authenticated {
		t.Errorf("without a key: %+v, %v", r, err)
	}
}

func TestExportsOfALedgerFromWhichEntriesWereErasedVerify(t *testing.T) {
	d, _ := openPruned(t)
	admin := d.as("superadmin")
	for _, query := range []string{"", "?checkpoint=true", "?checkpoint=true&access=true&limit=20", "?checkpoint=true&actor=remediation-reconciler"} {
		body := admin.get("/api/v1/audit/export" + query).want(http.StatusOK).body
		left := strings.Count(string(body), `"leaf":"`)
		whole := query == "" || query == "?checkpoint=true"
		if r := d.verified(t, body); whole != (left == 255) || !whole && left != 0 || !r.OK() || whole && r.Pruned != 256 {
			t.Errorf("%q: of %d entries the hashes are left, below %d", query, left, r.Pruned)
		}
	}
	d.verified(t, admin.get("/api/v1/audit/export?checkpoint=true").want(http.StatusOK).body, d.bed.Verifier)
	for _, format := range []string{"csv", "cloudevents"} {
		text := string(admin.get("/api/v1/audit/export?format=" + format).want(http.StatusOK).body)
		if strings.Contains(text, sample(3).ID.String()) || !strings.Contains(text, sample(294).ID.String()) {
			t.Errorf("the export as %s has what is left of entries, or not the others", format)
		}
	}
	text := string(admin.get("/api/v1/audit/stream?last_event_id=-1&limit=30").want(http.StatusOK).body)
	if strings.Contains(text, sample(3).ID.String()) || !strings.Contains(text, sample(270).ID.String()) {
		t.Errorf("the stream has what is left of entries, or not the others: %.600s", text)
	}
}

// A prunedStore is one from which another server erases entries.
type prunedStore struct{ rest.Store }

func (s prunedStore) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return s.Store.Records(ctx, r, func(rec *trail.Record) error {
		left, err := rec.Prune()
		if err != nil {
			return err
		}
		return fn(&left)
	})
}

func TestWhatIsLeftOfAnEntryIsNotServedAsTheEntry(t *testing.T) {
	d := open(t, change{store: func(s rest.Store) rest.Store { return prunedStore{s} }})
	d.as("recorder").record(samples(0, 3)...)
	a := d.as("superadmin").get("/log/tile/entries/000.p/3")
	a.problem(http.StatusNotFound, "", "entry 1 was erased")
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("the answer may be kept: %q", got)
	}
}

// A tamperedStore has holds look as if they were erased.
type tamperedStore struct{ rest.Store }

func (s tamperedStore) Record(ctx context.Context, index int64) (trail.Record, error) {
	r, err := s.Store.Record(ctx, index)
	if err == nil && strings.Contains(string(r.Entry), `"LegalHoldPlaced"`) {
		leaf := r.LeafHash()
		r.Leaf, r.Erasable = &leaf, nil
	}
	return r, err
}

func TestAHoldThatWasMadeToLookErasedHoldsEverything(t *testing.T) {
	d := open(t, change{store: func(s rest.Store) rest.Store { return tamperedStore{s} }})
	d.as("recorder").record(samples(0, 3)...)
	admin := d.as("superadmin")
	admin.post("/api/v1/audit/legal-hold", `{"correlation_id":"inc-0","reason":"case 1"}`).want(http.StatusNotFound)
	for n := range 3 {
		id := sample(n).ID.String()
		admin.post("/api/v1/erasures", `{"event":"`+id+`","reason":"r"}`).problem(http.StatusConflict, "", "hold")
	}
}
