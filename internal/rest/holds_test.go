package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/ledger"
)

const holdsPath = "/api/v1/audit/legal-hold"

// place places a hold.
func (c *caller) place(order string) *custody.Answer {
	c.d.t.Helper()
	h := new(custody.Answer)
	c.post(holdsPath, order).want(http.StatusOK).into(h)
	return h
}

// release releases a hold.
func (c *caller) release(name string) *answer {
	return c.do(http.MethodDelete, holdsPath+"/"+url.PathEscape(name), strings.NewReader(`{"release_reason":"settled"}`))
}

// held returns the ids of the holds that keep each event that a list shows, by
// the event's id.
func (c *caller) held(query string) map[string][]string {
	c.d.t.Helper()
	var list struct {
		Events []struct {
			ID         string
			LegalHolds []string
		}
	}
	c.get("/api/v1/audit" + query).want(http.StatusOK).into(&list)
	byID := map[string][]string{}
	for _, e := range list.Events {
		byID[e.ID] = e.LegalHolds
	}
	return byID
}

func TestTheLegalHoldOfSeed003(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 8)...)
	d.follow()
	admin := d.as("admin")
	var placed map[string]any
	admin.post(holdsPath, `{"correlation_id":"inc-0","reason":"case 12/26"}`).want(http.StatusOK).into(&placed)
	compare(t, "placed", placed, map[string]any{"correlation_id": "inc-0", "events_affected": 6.0, "placed_by": "admin", "reason": "case 12/26"})
	at, _ := placed["placed_at"].(string)
	if _, err := event.ParseTime(at); err != nil {
		t.Errorf("placed_at: %v", err)
	}
	var page struct{ Data []map[string]any }
	check := func(held bool) {
		t.Helper()
		page.Data = nil
		d.as("viewer").get("/api/v1/audit/events?event_type=RemediationExecuted").want(http.StatusOK).into(&page)
		for _, row := range page.Data {
			if !held || row["correlation_id"] != "inc-0" {
				_, ok := row["legal_hold_reason"]
				if row["legal_hold"] != false || ok {
					t.Errorf("%s: %v", row["correlation_id"], row)
				}
				continue
			}
			compare(t, "row", row, map[string]any{"legal_hold": true, "legal_hold_reason": "case 12/26", "legal_hold_set_at": at, "legal_hold_set_by": "admin"})
		}
	}
	check(true)
	later := sample(100)
	later.CorrelationID = "inc-0" // of the same incident, and after the hold
	d.as("recorder").record(later)
	check(true)
	if len(page.Data) != 9 {
		t.Fatalf("%d rows", len(page.Data))
	}
	var list map[string]any
	d.as("viewer").get(holdsPath).want(http.StatusOK).into(&list)
	compare(t, "list", list, map[string]any{"total": 1.0, "holds": []any{map[string]any{"correlation_id": "inc-0", "reason": "case 12/26", "placed_by": "admin", "placed_at": at}}})
	var released map[string]any
	admin.do(http.MethodDelete, holdsPath+"/inc-0", strings.NewReader(`{"release_reason":"settled"}`)).want(http.StatusOK).into(&released)
	compare(t, "released", released, map[string]any{"correlation_id": "inc-0", "events_released": 7.0, "released_by": "admin", "release_reason": "settled"})
	check(false)
	d.as("viewer").get(holdsPath).want(http.StatusOK).into(&list)
	compare(t, "list", list, map[string]any{"total": 0.0, "holds": []any{}})
	d.as("viewer").get(holdsPath + "?released=true").want(http.StatusOK).into(&list)
	compare(t, "list", list, map[string]any{"total": 1.0})
	admin.release("inc-0").problem(http.StatusNotFound, "", "no such legal hold stands")
}

func TestHoldsAreEventsThatOnlyTheLedgerRecords(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 6)...)
	d.follow()
	admin := d.as("admin")
	h := admin.place(`{"correlation_id":"inc-0","reason":"one","case":"12/26"}`)
	admin.post(holdsPath+"/"+h.ID, `{"actor":"remediation-reconciler","reason":"two"}`).want(http.StatusOK)
	admin.release(h.ID).want(http.StatusOK)
	for i, e := range d.recorded("LegalHoldPlaced", "LegalHoldChanged", "LegalHoldReleased") {
		if e.Actor.Name != "admin" || e.Recorded.Principal != "admin" || e.Resource != (event.Resource{Kind: "LegalHold", Name: h.ID}) {
			t.Errorf("%s by %s and %s about %v", e.EventType, e.Actor.Name, e.Recorded.Principal, e.Resource)
		}
		want := []string{
			fmt.Sprintf(`{"hold":{"case":"12/26","id":%q,"reason":"one","scope":{"correlation_id":"inc-0"}}}`, h.ID),
			fmt.Sprintf(`{"hold":{"id":%q,"reason":"two","scope":{"actor":"remediation-reconciler"}}}`, h.ID),
			fmt.Sprintf(`{"hold":{"id":%q,"reason":"settled"}}`, h.ID),
		}[i]
		if string(e.Ledger) != want || detail(e, "hold") != h.ID {
			t.Errorf("%s says %s, want %s", e.EventType, e.Ledger, want)
		}
	}
	var shown custody.Answer
	d.as("viewer").get(holdsPath + "/" + h.ID).want(http.StatusOK).into(&shown)
	if len(shown.Versions) != 2 || shown.Versions[0].Case != "12/26" || shown.Versions[1].Reason != "two" || shown.ReleaseReason != "settled" || *shown.Affected != 6 {
		t.Errorf("its history is %+v", shown)
	}
	forged := fmt.Sprintf(`{"eventType":"LegalHoldReleased","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"user","name":"a"},"resource":{"kind":"LegalHold"},"details":{"hold":%q,"reason":"r"}}`, h.ID)
	d.as("superadmin").post("/api/v1/audit/events", forged).want(http.StatusForbidden)
}

func TestAnEventIsHeldUntilEveryHoldIsReleased(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 6)...)
	d.follow()
	admin := d.as("admin")
	id := sample(4).ID.String()
	first := admin.place(`{"correlation_id":"inc-0","reason":"one"}`)
	if again := admin.place(`{"correlation_id":"inc-0","reason":"one"}`); again.ID != first.ID {
		t.Error("the same order placed another hold")
	}
	second := d.as("superadmin").place(`{"correlation_id":"inc-0","reason":"two"}`)
	third := admin.place(fmt.Sprintf(`{"event":%q,"reason":"three"}`, id))
	for _, tt := range []struct {
		release string
		want    []string
	}{{"", []string{first.ID, second.ID, third.ID}}, {first.ID, []string{second.ID, third.ID}}, {"inc-0", []string{third.ID}}, {third.ID, nil}} {
		if tt.release == "" {
			admin.release("inc-0").problem(http.StatusConflict, "", "release each by its own id")
		} else {
			admin.release(tt.release).want(http.StatusOK)
		}
		if got := d.as("viewer").held("?type=RemediationExecuted")[id]; !slices.Equal(got, tt.want) {
			t.Errorf("after %q, it is held by %v, want %v", tt.release, got, tt.want)
		}
	}
}

func TestAHoldHasAnyScope(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 6)...)
	d.follow()
	admin := d.as("admin")
	for order, want := range map[string]int64{
		`"event":"2"`:                           1,
		fmt.Sprintf(`"event":%q`, sample(3).ID): 1,
		`"correlation_id":"inc-0"`:              6,
		`"actor":"remediation-reconciler"`:      6,
		`"kind":"RemediationPlan","namespace":"payments","resource":"plan-1"`: 1,
		`"namespace":"payments"`: 2,
		`"from":"2026-03-19T14:30:01Z","to":"2026-03-19T14:30:03.123Z"`: 3,
		`"from":"2026-03-19","to":"2026-03-19"`:                         6,
		`"match":"event.details.number >= 4.0"`:                         2,
		`"match":"event.resource.name.endsWith('5')","actor":"nobody"`:  0,
		`"actor":"somebody"`:                                            0,
		`"event":"1000"`:                                                0,
	} {
		if want == 0 {
			admin.post(holdsPath, `{"reason":"r",`+order+`}`).problem(http.StatusNotFound, "", "future")
		}
		if h := admin.place(`{"reason":"r","future":true,` + order + `}`); h.Affected == nil || *h.Affected != want {
			t.Errorf("%s holds %v events, want %d", order, h.Affected, want)
		} else {
			n := int64(0)
			for _, by := range d.as("viewer").held("?type=RemediationExecuted") {
				if slices.Contains(by, h.ID) {
					n++
				}
			}
			if n != want {
				t.Errorf("%s holds %d events of the list, want %d", order, n, want)
			}
		}
	}
}

func TestBadHoldsAreRefusedByField(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 6)...)
	d.follow()
	admin := d.as("admin")
	d.unchanged(func() {
		for _, tt := range []struct{ order, field, says string }{
			{`{"reason":"r"}`, "correlation_id", "required, or another"},
			{`{"correlation_id":"inc-0"}`, "reason", "required"},
			{`{"correlation_id":"","reason":"r"}`, "correlation_id", "empty"},
			{`{"correlation_id":"inc-0","correlation_id":"inc-1","reason":"r"}`, "correlation_id", "twice"},
			{`{"correlation_id":"inc-0","reason":"r","release_reason":"r"}`, "release_reason", "twice"},
			{`{"match":"event.severity ==","reason":"r"}`, "match", "line 1, column 18"},
			{`{"match":"event.actr.name == 'x'","reason":"r"}`, "match", "line 1, column 6: undefined field 'actr'"},
			{`{"event":"x","reason":"r"}`, "event", "neither an id nor an index"},
			{`{"from":"soon","reason":"r"}`, "from", "neither a time"},
			{`{"from":"2026-03-20","to":"2026-03-19","reason":"r"}`, "from", "is after to"},
			{`{"hold_id":"x","reason":"r","actor":"a"}`, "hold_id", "a new hold gets its own"},
			{`{"correlationID":"inc-0","reason":"r"}`, "correlationID", "no such member"},
			{`{"actor":7,"reason":"r"}`, "actor", "expected a string"},
			{`{"actor":"` + strings.Repeat("x", 513) + `","reason":"r"}`, "actor", "the limit is 512"},
			{`{"actor":"a","reason":"` + strings.Repeat("x", 2001) + `"}`, "reason", "the limit is 2000"},
			{`[]`, "body", "expected an object"},
		} {
			admin.post(holdsPath, tt.order).problem(http.StatusBadRequest, tt.field, tt.says)
		}
		remove := func(path, body string) *answer {
			return admin.do(http.MethodDelete, holdsPath+path, strings.NewReader(body))
		}
		remove("/inc-0", ``).problem(http.StatusBadRequest, "body", "")
		remove("/inc-0", `{}`).problem(http.StatusBadRequest, "release_reason", "required")
		remove("", `{"release_reason":"r"}`).problem(http.StatusBadRequest, "hold_id", "name one hold")
		remove("", `{"actor":"a","release_reason":"r"}`).problem(http.StatusBadRequest, "hold_id", "name one hold")
		remove("/inc-0", `{"release_reason":"r"}`).problem(http.StatusNotFound, "", "no such legal hold")
		admin.post(holdsPath+"/nothing", `{"correlation_id":"inc-0","reason":"r"}`).problem(http.StatusNotFound, "", "no such legal hold")
		admin.get(holdsPath+"/nothing").problem(http.StatusBadRequest, "id", "")
		admin.get(holdsPath+"/"+sample(0).ID.String()).problem(http.StatusNotFound, "", "no such legal hold")
	})
}

func TestATokenOfSomeNamespacesHoldsWithinThem(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 6)...)
	d.follow()
	d.token(access.Token{Name: "payments", Role: access.Admin, Namespaces: []string{"payments"}})
	all := d.as("admin").place(`{"correlation_id":"inc-0","reason":"all"}`)
	h := d.as("payments").place(`{"correlation_id":"inc-0","reason":"ours"}`)
	if *h.Affected != 2 || !slices.Equal(h.Scope.Namespaces, []string{"payments"}) {
		t.Errorf("it is %+v", h)
	}
	for id, by := range d.as("admin").held("?type=RemediationExecuted") {
		want := []string{all.ID}
		if id == sample(1).ID.String() || id == sample(4).ID.String() {
			want = append(want, h.ID)
		}
		if !slices.Equal(by, want) {
			t.Errorf("%s is held by %v, want %v", id, by, want)
		}
	}
	var list struct{ Holds []custody.Answer }
	d.as("payments").get(holdsPath).want(http.StatusOK).into(&list)
	if len(list.Holds) != 1 || list.Holds[0].ID != h.ID {
		t.Errorf("it sees %+v", list.Holds)
	}
	d.as("payments").get(holdsPath+"/"+all.ID).problem(http.StatusNotFound, "", "")
	d.as("payments").release(all.ID).problem(http.StatusNotFound, "", "")
	d.as("payments").post(holdsPath, `{"namespace":"production","reason":"theirs"}`).problem(http.StatusNotFound, "", "")
	d.as("payments").release("inc-0").want(http.StatusOK)
}

func TestHoldsAreFoundAgainInTheLedger(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 6)...)
	d.follow()
	kept := d.as("admin").place(`{"correlation_id":"inc-0","reason":"kept"}`)
	gone := d.as("admin").place(`{"actor":"remediation-reconciler","reason":"gone"}`)
	d.as("admin").release(gone.ID).want(http.StatusOK)
	k := custody.New(d.ledger, d.journal, d.store, nil)
	size := d.ledger.State().Size()
	b, err := k.Book(t.Context(), size)
	if err != nil {
		t.Fatal(err)
	}
	if all := b.Holds(); len(all) != 2 || all[0].ID.String() != kept.ID || all[0].Released != nil || all[1].Released == nil || b.Size() != size {
		t.Errorf("the ledger has %+v", all)
	}
	// Another server places one; this one finds it before it answers.
	other := custody.New(d.ledger, d.journal, d.store, time.Now)
	o, err := custody.ParseOrder([]byte(`{"event":"3","reason":"other"}`), at)
	if err != nil {
		t.Fatal(err)
	}
	placed, err := other.Place(t.Context(), custody.Caller{By: ledger.By{Principal: "other", Via: "token"}}, o)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, by := range d.as("viewer").held("?type=RemediationExecuted") {
		found = found || slices.Contains(by, placed.ID)
	}
	if !found {
		t.Error("the hold of another server is not known")
	}
}

func TestNothingIsHeldInALedgerThatIsOnlyRead(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 6)...)
	d.follow()
	read := open(t, change{ledger: func(c *ledger.Config) { c.ReadOnly = func(*event.Event) {} }})
	read.as("admin").post(holdsPath, `{"correlation_id":"inc-0","reason":"r"}`).problem(http.StatusForbidden, "", "")
}

func FuzzHoldOrder(f *testing.F) {
	f.Add(`{"correlation_id":"inc-0","reason":"r"}`)
	f.Add(`{"event":"7","from":"2026-03-19","to":"24h","match":"event.severity == \"high\"","future":true,"reason":"r","case":"c"}`)
	f.Add(`{"hold_id":"x","release_reason":"r"}`)
	f.Fuzz(func(t *testing.T, text string) {
		o, err := custody.ParseOrder([]byte(text), at)
		if err != nil || o.Scope.Check() != nil {
			return
		}
		if !json.Valid([]byte(text)) {
			t.Errorf("%q was taken", text)
		}
		var back map[string]any
		if err := json.Unmarshal([]byte(o.Scope.String()), &back); err != nil || len(back) == 0 {
			t.Errorf("its scope is %s: %v", &o.Scope, err)
		}
	})
}
