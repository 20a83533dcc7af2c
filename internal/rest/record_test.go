package rest_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/rest"
)

// A bad is a document that must be refused, with the field at fault and a part
// of the reason.
type bad struct{ name, doc, field, says string }

func badDocuments() []bad {
	long := strings.Repeat("x", 10<<20)
	deep := strings.Repeat("[", 1000) + strings.Repeat("]", 1000)
	list := []bad{
		{"nothing", "", "body", "found the end"},
		{"white space", " \n", "body", "found the end"},
		{"no JSON", "hello", "body", "expected an object"},
		{"null", "null", "body", "found null"},
		{"a number", "5", "body", "found a number"},
		{"a string", `"eventType"`, "body", "found a string"},
		{"cut off in a name", native[:5], "body", "unterminated"},
		{"cut off in an object", native[:len(native)-2], "resource", "found the end"},
		{"cut off at the end", native[:len(native)-1], "body", "found the end"},
		{"cut off in a number", `{"durationMs":-`, "durationMs", "malformed number"},
		{"two documents", native + native, "body", "after the end"},
		{"text behind", native + "x", "body", "after the end"},
		{"a comma too many", native[:len(native)-1] + ",}", "body", "member name"},
		{"no members", "{}", "eventType", "required"},
		{"an unknown member", with(native, "colour", `"red"`), "colour", "no such member"},
		{"an unknown member of the actor", with(native, "actor.ip", `"1"`), "actor.ip", "no such member"},
		{"another case", with(native, "EventType", `"x"`), "EventType", "no such member"},
		{"a member twice", native[:len(native)-1] + `,"eventType":"IssueCreated"}`, "eventType", "twice"},
		{"a member and its alias", with(with(native, "correlationID", `"a"`), "correlationId", `"a"`), "", "twice"},
		{"a member of the actor twice", with(native, "actor", `{"type":"user","name":"a","name":"b"}`), "actor.name", "twice"},
		{"a detail twice", with(native, "details", `{"a":1,"b":2,"a":3}`), "details.a", "twice"},
		{"a deep detail twice", with(native, "details", `{"a":[{"b":1,"b":1}]}`), "details.a[0].b", "twice"},
		{"details a thousand deep", with(native, "details", `{"a":`+deep+`}`), "", "too deeply"},
		{"details eleven deep", with(native, "details", strings.Repeat(`{"a":`, 11)+"1"+strings.Repeat("}", 11)), "", "too deeply"},
		{"an unknown member a thousand deep", with(native, "x", deep), "x", "no such member"},
		{"a wrong member a thousand deep", with(native, "severity", deep), "severity", "expected a string"},
		{"NUL, escaped", with(native, "actor.name", `"a\u0000b"`), "actor.name", "NUL"},
		{"NUL, raw", with(native, "actor.name", "\"a\x00b\""), "actor.name", "control character"},
		{"NUL in a detail", with(native, "details", `{"a":"\u0000"}`), "details.a", "NUL"},
		{"NUL in a detail's name", with(native, "details", `{"\u0000":1}`), "details", "NUL"},
		{"a raw newline in a string", with(native, "actor.name", "\"a\nb\""), "actor.name", "control character"},
		{"bad UTF-8", with(native, "actor.name", "\"\xff\""), "actor.name", "UTF-8"},
		{"bad UTF-8 in a detail", with(native, "details", "{\"a\":\"\xc0\xaf\"}"), "details.a", "UTF-8"},
		{"a lone surrogate", with(native, "actor.name", `"\ud800"`), "actor.name", "surrogate"},
		{"the year 9999", with(native, "timestamp", `"9999-12-31T23:59:59Z"`), "timestamp", "ahead"},
		{"the year 10000", with(native, "timestamp", `"10000-01-01T00:00:00Z"`), "timestamp", "RFC 3339"},
		{"the year 1969", with(native, "timestamp", `"1969-12-31T23:59:59Z"`), "timestamp", "1970"},
		{"the thirtieth of February", with(native, "timestamp", `"2026-02-30T00:00:00Z"`), "timestamp", "no such day"},
		{"no zone", with(native, "timestamp", `"2026-03-19T14:30:00"`), "timestamp", "time zone"},
		{"a date", with(native, "timestamp", `"2026-03-19"`), "timestamp", "RFC 3339"},
		{"seconds since 1970", with(native, "timestamp", `1773930600`), "timestamp", "expected a string"},
		{"ten digits of a second", with(native, "timestamp", `"2026-03-19T14:30:00.1234567891Z"`), "timestamp", "nanoseconds"},
		{"no timestamp", with(native, "timestamp", ""), "timestamp", "required"},
		{"an empty actor", with(native, "actor.name", `""`), "actor.name", "required"},
		{"a kind of actor that is none", with(native, "actor.type", `"ghost"`), "actor.type", "ghost"},
		{"a severity that is none", with(native, "severity", `"loud"`), "severity", "loud"},
		{"an outcome that is none", with(native, "outcome", `"maybe"`), "outcome", "maybe"},
		{"an id that is none", with(native, "id", `"1"`), "id", "UUID"},
		{"the nil id", with(native, "id", `"00000000-0000-0000-0000-000000000000"`), "id", "nil UUID"},
		{"an event type with a space", with(native, "eventType", `"a b"`), "eventType", "letters"},
		{"a name with capitals", with(native, "name", `"Audit-1"`), "name", "lower-case"},
		{"a negative duration", with(native, "durationMs", `-1`), "durationMs", "-1"},
		{"a fraction of a duration", with(native, "durationMs", `1.5`), "durationMs", "whole number"},
		{"an integer that would lose digits", with(native, "details", `{"n":9007199254740993}`), "details.n", "cannot hold"},
		{"an infinite number", with(native, "details", `{"n":1e999}`), "details.n", ""},
		{"no days of retention", with(native, "retentionDays", `0`), "retentionDays", "from 1"},
		{"details of more than 256 KiB", with(native, "details", `{"a":"`+long[:257<<10]+`"}`), "details", "limit"},
		{"a message of more than 16 KiB", with(native, "error.message", `"`+long[:17<<10]+`"`), "error.message", "limit"},
	}
	for _, member := range []string{"name", "eventType", "timestamp", "category", "action", "outcome", "severity", "correlationID", "parentID", "id", "cluster", "fact",
		"actor.type", "actor.name", "actor.serviceAccount", "actor.controller", "resource.apiVersion", "resource.kind", "resource.namespace", "resource.name", "resource.uid",
		"error.code", "error.message", "source.name", "original.x"} {
		for _, wrong := range []string{"5", "true", "{}", "[]"} {
			list = append(list, bad{member + " is " + wrong, with(native, member, wrong), member, "expected a string"})
		}
		says := "limit"
		switch member {
		case "severity", "outcome", "actor.type":
			says = "none of"
		case "timestamp":
			says = "RFC 3339"
		case "id", "parentID":
			says = "UUID"
		}
		list = append(list, bad{member + " is long", with(native, member, `"`+long[:65<<10]+`"`), member, says})
		if member == "name" || member == "actor.name" || member == "severity" {
			list = append(list, bad{member + " has 10 MB", with(native, member, `"`+long+`"`), member, says})
		}
	}
	for member, kind := range map[string]string{"actor": "an object", "resource": "an object", "details": "an object", "error": "an object", "source": "an object", "original": "an object",
		"durationMs": "a whole number", "retentionDays": "a whole number", "source.seq": "a whole number", "sensitive": "true or false"} {
		list = append(list, bad{member + " is a string", with(native, member, `"x"`), member, "expected " + kind}, bad{member + " is an array", with(native, member, `[]`), member, "expected " + kind})
	}
	for _, member := range []string{"event_type", "event_category", "event_action", "event_outcome", "correlation_id", "event_timestamp", "event_data", "version"} {
		if member != "event_type" { // without it the form would be another
			list = append(list, bad{member + " is missing", with(flat, member, ""), member, "required"})
		}
		list = append(list, bad{member + " is false", with(flat, member, "false"), member, "expected"})
	}
	return append(list,
		bad{"an unknown member of Kubernaut's form", with(flat, "colour", "1"), "colour", "Kubernaut"},
		bad{"a member of Kubernaut's form twice", flat[:len(flat)-1] + `,"version":"1.0"}`, "version", "twice"},
		bad{"a member of each form", with(flat, "eventType", `"x"`), "eventType", "Kubernaut"},
		bad{"Kubernaut's severity", with(flat, "severity", `"loud"`), "severity", "loud"},
		bad{"Kubernaut's actor", with(flat, "actor_type", `"ghost"`), "actor_type", "ghost"},
		bad{"Kubernaut's long actor", with(flat, "actor_id", `"`+long[:600]+`"`), "actor_id", "limit"},
		bad{"Kubernaut's details", with(flat, "event_data", `{"a":{"b":"\u0000"}}`), "event_data.a.b", "NUL"},
		bad{"Kubernaut's duration", with(flat, "duration_ms", `-3`), "duration_ms", "-3"},
		bad{"Kubernaut's time", with(flat, "event_timestamp", `"yesterday"`), "event_timestamp", "RFC 3339"},
		bad{"Kubernaut's future", with(flat, "event_timestamp", `"2999-01-01T00:00:00Z"`), "event_timestamp", "ahead"},
	)
}

func TestABadEventIsRefusedAndNamesItsField(t *testing.T) {
	d := open(t)
	d.unchanged(func() {
		for _, b := range badDocuments() {
			t.Run(b.name, func(t *testing.T) {
				a := d.as("recorder").post("/api/v1/audit/events", b.doc)
				a.t = t
				if len(a.body) > 8<<10 {
					t.Errorf("the problem has %d bytes", len(a.body))
				}
				refused(a, b)
			})
		}
	})
}

// refused checks the problem of a bad document.
func refused(a *answer, b bad) {
	a.t.Helper()
	field := b.field
	if field == "" { // any
		var p problem
		if a.into(&p); len(p.Errors) > 0 {
			field = p.Errors[0].Field
		}
	}
	a.problem(http.StatusBadRequest, field, b.says)
}

func TestEveryFaultOfAnEventIsNamed(t *testing.T) {
	d := open(t)
	p := d.as("recorder").post("/api/v1/audit/events", `{"severity":"loud","durationMs":-1,"actor":{"type":"ghost"}}`).problem(http.StatusBadRequest, "eventType", "")
	fields := map[string]bool{}
	for _, e := range p.Errors {
		fields[e.Field] = true
	}
	for _, f := range []string{"eventType", "timestamp", "actor.name", "actor.type", "resource.kind", "severity", "durationMs"} {
		if !fields[f] || !strings.Contains(p.Detail, f+": ") {
			t.Errorf("%s is not named in %+v", f, p)
		}
	}
}

func TestABadEventOfABatchLeavesTheOthersBe(t *testing.T) {
	d := open(t)
	good := 0
	for i, b := range badDocuments() {
		if len(b.doc) > 1<<20 || strings.TrimSpace(b.doc) == "" || b.doc == native+native || strings.Contains(b.doc, "\n") {
			continue // not one item of a list
		}
		a := d.as("recorder").post("/api/v1/audit/events/batch", string(sample(2*i).AppendJSON(nil))+"\n"+b.doc+"\n"+string(sample(2*i+1).AppendJSON(nil)), "Content-Type", "application/x-ndjson")
		a.what = b.name
		got := batchOf(a, http.StatusMultiStatus)
		good += 2
		if got.Accepted != 2 || got.Rejected != 1 || len(got.Items) != 3 || got.Items[0].Status != 201 || got.Items[2].Status != 201 || len(got.EventIDs) != 2 {
			t.Fatalf("%s: %s", b.name, a.body)
		}
		v := got.Items[1]
		if v.Status != 400 || v.Position != 1 || v.Error == nil || v.ID != "" || len(v.Error.Errors) == 0 || b.field != "" && v.Error.Errors[0].Field != b.field {
			t.Errorf("%s, want %s: %s", b.name, b.field, a.body)
		}
	}
	if n := len(d.recorded("RemediationExecuted")); n != good {
		t.Errorf("%d good events recorded, want %d", n, good)
	}
}

// A batch is the answer to one.
type batch struct {
	EventIDs                       []string `json:"event_ids"`
	Message                        string
	Accepted, Duplicates, Rejected int
	Checkpoint                     string
	Items                          []struct {
		ID               string
		Index            int64
		Position, Status int
		Duplicate        bool
		Error            *problem
	}
}

func batchOf(a *answer, status int) batch {
	a.t.Helper()
	var b batch
	a.want(status).into(&b)
	if len(b.EventIDs) != b.Accepted || b.Accepted+b.Rejected != len(b.Items) || (b.Checkpoint == "") != (b.Accepted == 0) {
		a.t.Errorf("%s: does not add up: %s", a.what, a.body)
	}
	for i, item := range b.Items {
		if item.Position != i {
			a.t.Errorf("%s: item %d says that it is %d", a.what, i, item.Position)
		}
	}
	return b
}

func TestABatchMayBeAllBad(t *testing.T) {
	d := open(t)
	d.unchanged(func() {
		got := batchOf(d.as("recorder").post("/api/v1/audit/events/batch", "[{},5,null]"), http.StatusMultiStatus)
		if got.Rejected != 3 || got.Message != "0 of 3 events recorded" {
			t.Errorf("got %+v", got)
		}
	})
}

func TestNDJSONMayHaveBlankLinesAndCRLF(t *testing.T) {
	d := open(t)
	body := "\r\n" + string(sample(0).AppendJSON(nil)) + "\r\n\r\n  \n" + string(sample(1).AppendJSON(nil)) + "\n\t\n" + string(sample(2).AppendJSON(nil))
	for name, contentType := range map[string]string{"named": "application/x-ndjson", "named otherwise": "application/jsonl; charset=utf-8", "unnamed": "application/json"} {
		got := batchOf(d.as("recorder").post("/api/v1/audit/events/batch", body, "Content-Type", contentType), http.StatusCreated)
		if len(got.Items) != 3 || got.EventIDs[1] != sample(1).ID.String() {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAMalformedBatchIsRefusedAsAWhole(t *testing.T) {
	d := open(t)
	one := string(sample(0).AppendJSON(nil))
	many := strings.Repeat(one+",", rest.MaxItems) + one
	d.unchanged(func() {
		for _, tt := range []struct {
			name, contentType, body string
			status                  int
			about                   string
		}{
			{"nothing", "", "", 400, "body"},
			{"no lines", "application/x-ndjson", "\n\n", 400, "body"},
			{"no elements", "", "[]", 400, "body"},
			{"a string", "", `"` + one[:5], 400, "body"},
			{"an array that is cut off", "", "[" + one + "," + one[:20], 400, "body"},
			{"an array without its end", "", "[" + one, 400, "body"},
			{"an array with text behind", "", "[" + one + "]x", 400, "body"},
			{"two arrays", "", "[" + one + "][" + one + "]", 400, "body"},
			{"one element too many", "", "[" + many + "]", 413, "body"},
			{"one line too many", "application/x-ndjson", strings.ReplaceAll(many, "},{\"id\"", "}\n{\"id\""), 413, "body"},
			{"a malformed type", "text/plain; charset", "[" + one + "]", 400, "Content-Type"},
		} {
			a := d.as("recorder").post("/api/v1/audit/events/batch", tt.body, "Content-Type", tt.contentType)
			a.what = tt.name
			var p problem
			if tt.about == "" && len(a.into(&p).body) > 0 && len(p.Errors) > 0 {
				tt.about = p.Errors[0].Field
			}
			a.problem(tt.status, tt.about, "")
		}
	})
}

func TestABadElementSpoilsNoOther(t *testing.T) {
	for name, bad := range map[string]string{
		"a member twice":    `{"a":1,"a":1}`,
		"no JSON":           `x`,
		"nothing":           ``,
		"NaN":               `{"durationMs":NaN}`,
		"a large number":    `{"durationMs":1e400}`,
		"not UTF-8":         "{\"a\":\"\xff\"}",
		"a lone surrogate":  `{"a":"\ud800"}`,
		"NUL":               "{\"a\":\"\x00\"}",
		"a thousand deep":   strings.Repeat("[", 1000) + strings.Repeat("]", 1000),
		"another's bracket": `{"a":[1}]`,
	} {
		d := open(t)
		body := "[" + string(sample(0).AppendJSON(nil)) + "," + bad + "," + string(sample(1).AppendJSON(nil)) + "]"
		got := batchOf(d.as("recorder").post("/api/v1/audit/events/batch", body), http.StatusMultiStatus)
		if got.Accepted != 2 || got.Rejected != 1 || got.Items[1].Status != http.StatusBadRequest {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestABatchMayHoldTenThousandEvents(t *testing.T) {
	d := open(t)
	var body []byte
	for i := range rest.MaxItems {
		body = fmt.Appendf(body, `{"eventType":"IssueCreated","timestamp":"2026-03-19T14:30:00Z","actor":{"type":"user","name":"u%d"},"resource":{"kind":"Issue"}}`+"\n", i)
	}
	got := batchOf(d.as("recorder").post("/api/v1/audit/events/batch", string(body)), http.StatusCreated)
	if got.Accepted != rest.MaxItems || got.Items[rest.MaxItems-1].Index != rest.MaxItems {
		t.Errorf("%d accepted", got.Accepted)
	}
}

func TestWhatOnlyTheLedgerMayRecordIsRefused(t *testing.T) {
	d := open(t)
	var reserved []string
	for _, typ := range event.Types() {
		if typ.Reserved {
			reserved = append(append(reserved, typ.Type), typ.Aliases...)
		}
	}
	if len(reserved) < 10 {
		t.Fatalf("only %d reserved types", len(reserved))
	}
	d.unchanged(func() {
		for _, role := range []string{"recorder", "superadmin"} {
			c := d.as(role)
			for _, name := range reserved {
				c.post("/api/v1/audit/events", with(native, "eventType", `"`+name+`"`)).problem(http.StatusForbidden, "eventType", "reserved")
				c.post("/api/v1/audit/events", with(flat, "event_type", `"`+name+`"`)).problem(http.StatusForbidden, "event_type", "reserved")
			}
			c.post("/api/v1/audit/events", with(native, "ledger", `{"created":{}}`)).problem(http.StatusForbidden, "ledger", "reserved")
			c.post("/api/v1/audit/events", with(native, "recorded", `{"principal":"ceo"}`)).problem(http.StatusBadRequest, "recorded", "server")
			got := batchOf(c.post("/api/v1/audit/events/batch", "["+with(native, "ledger", "null")+","+with(native, "eventType", `"LedgerCreated"`)+"]"), http.StatusMultiStatus)
			if got.Items[0].Status != 403 || got.Items[1].Status != 403 {
				t.Errorf("in a batch: %+v", got)
			}
		}
	})
}
