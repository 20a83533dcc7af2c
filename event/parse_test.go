package event_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
)

// Members by what they hold.
var (
	strs = []string{"name", "eventType", "actor.type", "actor.name", "actor.serviceAccount", "actor.controller",
		"resource.apiVersion", "resource.kind", "resource.namespace", "resource.name", "resource.uid",
		"category", "action", "outcome", "severity", "correlationID", "correlationId", "cluster", "fact", "error.code", "error.message", "source.name"}
	ids     = []string{"id", "parentID", "parentId"}
	ints    = []string{"durationMs", "retentionDays", "source.seq"}
	objects = []string{"actor", "resource", "details", "error", "source", "original"}
)

func TestAWrongTypeNamesTheMember(t *testing.T) {
	base := with(t, minimal, "sensitive", "false")
	check := func(members []string, wrong map[string]string) {
		for _, member := range members {
			for text, want := range wrong {
				t.Run(fmt.Sprintf("%s is %s", member, text), func(t *testing.T) {
					_, err := event.Parse([]byte(with(t, base, member, text)))
					fails(t, err, member, want)
				})
			}
		}
	}
	check(strs, map[string]string{"7": "expected a string, found a number", `{}`: "expected a string, found an object", "[]": "expected a string, found an array", "true": "expected a string, found a boolean"})
	check(ids, map[string]string{"7": "expected a string, found a number", `"x"`: `not a UUID: "x"`, `"019310a2-7a3c-7000-8000-00000000000g"`: "not a UUID", `"019310a27a3c70008000000000000001"`: "not a UUID"})
	check([]string{"timestamp"}, map[string]string{"1710858600": "expected a string, found a number", `"yesterday"`: "not an RFC 3339 time"})
	check(ints, map[string]string{`"7"`: "expected a whole number, found a string", "1.5": "expected a whole number", "1e3": "expected a whole number", "9007199254740992": "expected a whole number within ±9007199254740991", "{}": "found an object"})
	check([]string{"sensitive"}, map[string]string{`"true"`: "expected true or false, found a string", "1": "expected true or false, found a number"})
	check(objects, map[string]string{`"x"`: "expected an object, found a string", "[]": "expected an object, found an array", "7": "expected an object, found a number"})
	check([]string{"original.severity"}, map[string]string{"7": "expected a string, found a number", "null": "expected a string, found null"})
	check([]string{"retentionDays"}, map[string]string{"0": "must be from 1 to 36500 days", "-1": "must be from 1", "36501": "must be from 1 to 36500 days"})
}

func TestNullStandsForNothing(t *testing.T) {
	for _, members := range [][]string{strs, ids, ints, objects, {"timestamp", "sensitive"}} {
		for _, member := range members {
			t.Run(member, func(t *testing.T) {
				parse(t, with(t, "{}", member, "null"))
			})
		}
	}
}

func TestADocumentThatIsNotAnEventIsRefused(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, tt := range []struct{ name, in, field, want string }{
		{"nothing", "", "body", "expected an object, found the end"},
		{"a list", "[]", "body", "expected an object, found an array"},
		{"two events", minimal + minimal, "body", "unexpected an object after the end"},
		{"an unknown member", `{"sevrity":"high"}`, "sevrity", "no such member of an event"},
		{"a member in another case", `{"EventType":"x"}`, "EventType", "no such member of an event"},
		{"an unknown member of the actor", `{"actor":{"kind":"x"}}`, "actor.kind", "no such member"},
		{"an unknown member of the resource", `{"resource":{"type":"x"}}`, "resource.type", "no such member"},
		{"an unknown member of the error", `{"error":{"messageDigest":"x"}}`, "error.messageDigest", "no such member"},
		{"a member of an entry", `{"v":1}`, "v", "no such member of an event"},
		{"a digest", `{"detailsDigest":"x"}`, "detailsDigest", "no such member of an event"},
		{"what the server sets", `{"recorded":{}}`, "recorded", "is set by the server only"},
		{"a member that stands twice", `{"action":"a","action":"b"}`, "action", "stands twice"},
		{"a member that stands twice, the first time as null", `{"action":null,"action":"b"}`, "action", "stands twice"},
		{"a member that stands twice under both spellings", `{"correlationID":"a","correlationId":"b"}`, "correlationId", "stands twice"},
		{"a parent that stands twice under both spellings", `{"parentId":"","parentID":""}`, "parentID", "stands twice"},
		{"a member of the actor that stands twice", `{"actor":{"name":"a","name":"b"}}`, "actor.name", "stands twice"},
		{"a detail that stands twice", `{"details":{"a":[{"b":1,"b":2}]}}`, "details.a[0].b", "member stands twice"},
		{"an original that stands twice", `{"original":{"a":"1","a":"2"}}`, "original.a", "stands twice"},
		{"details eleven deep", `{"details":{"a":` + deep(10) + `}}`, "details.a" + strings.Repeat("[0]", 9), "nested too deeply"},
		{"a very deep document", `{"details":{"a":` + deep(100000) + `}}`, "details.a" + strings.Repeat("[0]", 9), "nested too deeply"},
		{"large details", `{"details":{"a":"` + strings.Repeat("x", event.MaxDetails) + `"}}`, "details", "262152 bytes, the limit is 262144"},
		{"a number that would lose digits", `{"details":{"pods":[1,9007199254740993]}}`, "details.pods[1]", "a float64 cannot hold the integer as written; send it as a string"},
		{"a number out of range", `{"details":{"n":1e999}}`, "details.n", "number out of range"},
		{"NUL", `{"actor":{"name":"a\u0000"}}`, "actor.name", "NUL in a string"},
		{"NUL in details", `{"details":{"a":"\u0000"}}`, "details.a", "NUL in a string"},
		{"bad UTF-8", "{\"actor\":{\"name\":\"a\xff\"}}", "actor.name", "not valid UTF-8"},
		{"bad UTF-8 in details", "{\"details\":{\"a\":[\"\xc3\x28\"]}}", "details.a[0]", "not valid UTF-8"},
		{"half a surrogate pair", `{"cluster":"\ud800"}`, "cluster", "lone surrogate"},
		{"a line break in a string", "{\"cluster\":\"a\nb\"}", "cluster", "control character 0x0a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := event.Parse([]byte(tt.in))
			fails(t, err, tt.field, tt.want)
		})
	}
	t.Run("cut short anywhere", func(t *testing.T) {
		for i := range full {
			if _, err := event.Parse([]byte(full[:i])); err == nil {
				t.Fatalf("accepted %s", full[:i])
			}
		}
	})
}

func TestOnlyTheLedgerMaySpeakForItself(t *testing.T) {
	_, err := event.Parse([]byte(with(t, minimal, "ledger", `{"key":"k"}`)))
	if !errors.Is(err, event.ErrReserved) {
		t.Errorf("got %v, want ErrReserved", err)
	}
	fails(t, err, "ledger", "reserved for the ledger itself")
	for _, name := range []string{"LedgerCreated", "ledger_created", "AuditRead", "ledgerCreated", "LEDGERCREATED", "ledger-created"} {
		err := parse(t, with(t, minimal, "eventType", `"`+name+`"`)).CheckReserved()
		if !errors.Is(err, event.ErrReserved) {
			t.Errorf("%s: got %v, want ErrReserved", name, err)
		}
		fails(t, err, "eventType", "is reserved for the ledger itself")
	}
	if err := complete(t, full).CheckReserved(); err != nil {
		t.Error(err)
	}
	e := complete(t, minimal)
	e.Ledger = []byte("{}")
	fails(t, e.CheckReserved(), "ledger", "reserved")
}

func TestBothSpellingsOfAnIdAreRead(t *testing.T) {
	e := parse(t, `{"correlationId":"inc-1","parentId":"019310A2-7A3C-7000-8000-000000000002"}`)
	if e.CorrelationID != "inc-1" || e.ParentID.String() != "019310a2-7a3c-7000-8000-000000000002" {
		t.Errorf("got %q and %s", e.CorrelationID, e.ParentID)
	}
}

func TestWhatAServerSendsIsReadLeniently(t *testing.T) {
	e, err := event.ParseServed([]byte(with(t, with(t, with(t, full, "index", "7"), "recorded", `{"at":"2026-03-19T14:30:01Z","principal":"p","via":"token","attribution":"asserted","uncatalogued":true,"new":1}`), "actor.new", "[]")))
	if err != nil {
		t.Fatal(err)
	}
	want := event.Recorded{At: time.Date(2026, 3, 19, 14, 30, 1, 0, time.UTC), Principal: "p", Via: "token", Attribution: "asserted", Uncatalogued: true}
	if e.Recorded != want {
		t.Errorf("got %+v", e.Recorded)
	}
	_, err = event.ParseServed([]byte(`{"recorded":{"at":"now"}}`))
	fails(t, err, "recorded.at", "not an RFC 3339 time")
	_, err = event.ParseServed([]byte(`{"new":{"a":1,"a":2}}`))
	fails(t, err, "new.a", "member stands twice")
}

func TestLongStringsAreReadAndThenRefusedByName(t *testing.T) {
	long := `"` + strings.Repeat("x", 10<<20) + `"`
	for _, member := range strs {
		if member == "correlationId" {
			continue // named as correlationID
		}
		e := parse(t, with(t, full, member, long))
		var found event.Invalid
		if !errors.As(e.Validate(now), &found) || found[0].Field != member {
			t.Errorf("%s: got %.200v", member, found)
		}
	}
}

func TestTimesAreKeptToTheNanosecondInUTC(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"whole seconds", "2026-03-19T14:30:00Z", "2026-03-19T14:30:00Z"},
		{"milliseconds", "2026-03-19T14:30:00.123Z", "2026-03-19T14:30:00.123Z"},
		{"a tenth grows to milliseconds", "2026-03-19T14:30:00.1Z", "2026-03-19T14:30:00.100Z"},
		{"microseconds", "2026-03-19T14:30:00.123456Z", "2026-03-19T14:30:00.123456Z"},
		{"nanoseconds", "2026-03-19T14:30:00.000000001Z", "2026-03-19T14:30:00.000000001Z"},
		{"zeros add nothing", "2026-03-19T14:30:00.000000000Z", "2026-03-19T14:30:00Z"},
		{"an offset", "2026-03-20T00:15:00+09:45", "2026-03-19T14:30:00Z"},
		{"an offset west", "2026-12-31T23:00:00.5-01:30", "2027-01-01T00:30:00.500Z"},
		{"an unknown offset", "2026-03-19T14:30:00-00:00", "2026-03-19T14:30:00Z"},
		{"small letters", "2026-03-19t14:30:00z", "2026-03-19T14:30:00Z"},
		{"a leap day", "2028-02-29T00:00:00Z", "2028-02-29T00:00:00Z"},
		{"the last second there is", "9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"},
		{"the first", "0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := event.ParseTime(tt.in)
			if err != nil || event.FormatTime(got) != tt.want {
				t.Errorf("got %s, %v", event.FormatTime(got), err)
			}
			if got.Location() != time.UTC {
				t.Errorf("in %s", got.Location())
			}
		})
	}
	for _, tt := range []struct{ name, in, want string }{
		{"no zone", "2026-03-19T14:30:00", "no time zone; end it with Z or an offset such as +02:00"},
		{"no zone after a fraction", "2026-03-19T14:30:00.5", "no time zone"},
		{"second 60", "2026-06-30T23:59:60Z", "second 60 cannot be kept"},
		{"31 February", "2026-02-31T00:00:00Z", "no such day in that month"},
		{"29 February in a common year", "2026-02-29T00:00:00Z", "no such day in that month"},
		{"day 0", "2026-02-00T00:00:00Z", "not an RFC 3339 time"},
		{"month 13", "2026-13-01T00:00:00Z", "not an RFC 3339 time"},
		{"hour 24", "2026-03-19T24:00:00Z", "not an RFC 3339 time"},
		{"minute 60", "2026-03-19T23:60:00Z", "not an RFC 3339 time"},
		{"ten digits", "2026-03-19T14:30:00.1234567890Z", "more digits than nanoseconds"},
		{"no digits", "2026-03-19T14:30:00.Z", "not an RFC 3339 time"},
		{"a comma", "2026-03-19T14:30:00,5Z", "not an RFC 3339 time"},
		{"a space for the T", "2026-03-19 14:30:00Z", "not an RFC 3339 time"},
		{"an offset without a colon", "2026-03-19T14:30:00+0200", "not an RFC 3339 time"},
		{"an offset of a day", "2026-03-19T14:30:00+24:00", "not an RFC 3339 time"},
		{"a zone's name", "2026-03-19T14:30:00 CET", "not an RFC 3339 time"},
		{"something after the zone", "2026-03-19T14:30:00Z ", "not an RFC 3339 time"},
		{"a date", "2026-03-19", "not an RFC 3339 time"},
		{"a year too late", "9999-12-31T23:59:59-00:01", "lies outside the years 0000 to 9999"},
		{"a year too early", "0000-01-01T00:00:00+00:01", "lies outside the years 0000 to 9999"},
		{"a negative year", "-001-01-01T00:00:00Z", "not an RFC 3339 time"},
		{"nothing", "", "not an RFC 3339 time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := event.Parse([]byte(with(t, "{}", "timestamp", `"`+tt.in+`"`)))
			fails(t, err, "timestamp", tt.want)
		})
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"2026-03-19T14:30:00.123Z", "2026-03-20T00:15:00+09:45", "2026-02-31T00:00:00Z", "2026-06-30T23:59:60Z", "2026-03-19T14:30:00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := event.ParseTime(s)
		if err != nil {
			return
		}
		want, err := time.Parse(time.RFC3339Nano, strings.ToUpper(s))
		if err != nil || !want.Equal(got) {
			t.Fatalf("%q is %s, package time says %s (%v)", s, got, want, err)
		}
		if back, err := event.ParseTime(event.FormatTime(got)); err != nil || !back.Equal(got) {
			t.Fatalf("%q comes back as %s (%v)", s, back, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(minimal))
	f.Add([]byte(`{"details":{"b":[1,{"a":-0.0}],"a":"\ud83d\ude00"},"original":{"x":"y"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := event.Parse(data)
		if err != nil {
			var field *event.FieldError
			if !errors.As(err, &field) || field.Field == "" {
				t.Fatalf("%v names no field", err)
			}
			return
		}
		text := e.AppendJSON(nil)
		back, err := event.ParseServed(text)
		if err != nil {
			t.Fatalf("%v in our own %s", err, text)
		}
		if got := back.AppendJSON(nil); string(got) != string(text) {
			t.Fatalf("went %s\ncame %s", text, got)
		}
	})
}
