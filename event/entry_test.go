package event_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gowebpki/jcs"

	"github.com/graven-audit/graven/event"
)

// Entries are hashed into ledgers that are kept for years, so the vectors in
// testdata/entries.json must never change, and there is no switch that writes
// them anew. A new version of the entry format adds vectors of its own.
func TestEntriesAreWrittenAsEver(t *testing.T) {
	raw, err := os.ReadFile("testdata/entries.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Name, Salt, Entry, Erasable string
		Event                       json.RawMessage
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		t.Run(v.Name, func(t *testing.T) {
			e, err := event.ParseServed(v.Event)
			if err != nil {
				t.Fatal(err)
			}
			var salt event.Salt
			if _, err := hex.Decode(salt[:], []byte(v.Salt)); err != nil {
				t.Fatal(err)
			}
			if got := string(e.AppendEntry(nil, e.Digests(salt))); got != v.Entry {
				t.Errorf("entry\ngot  %s\nwant %s", got, v.Entry)
			}
			if got := string(e.AppendErasable(nil)); got != v.Erasable {
				t.Errorf("erasable\ngot  %s\nwant %s", got, v.Erasable)
			}
		})
	}
}

// reference writes an entry by other means: encoding/json, and another
// implementation of RFC 8785.
func reference(t testing.TB, e *event.Event, salt event.Salt) []byte {
	m := map[string]any{"v": 1}
	put := func(m map[string]any, name string, v any, there bool) {
		if there {
			m[name] = v
		}
	}
	text := func(m map[string]any, name, s string) { put(m, name, s, s != "") }
	digest := func(v any) string {
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		// Wrapped, because that implementation takes objects and arrays only.
		canonical, err := jcs.Transform(append(append([]byte("["), encoded...), ']'))
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append(salt[:], canonical[1:len(canonical)-1]...))
		return hex.EncodeToString(sum[:])
	}
	actor, resource, recorded := map[string]any{}, map[string]any{"kind": e.Resource.Kind}, map[string]any{}
	m["actor"], m["resource"], m["recorded"] = actor, resource, recorded
	text(actor, "type", e.Actor.Type)
	text(actor, "name", e.Actor.Name)
	text(actor, "serviceAccount", e.Actor.ServiceAccount)
	text(actor, "controller", e.Actor.Controller)
	text(resource, "apiVersion", e.Resource.APIVersion)
	text(resource, "namespace", e.Resource.Namespace)
	text(resource, "name", e.Resource.Name)
	text(resource, "uid", e.Resource.UID)
	put(recorded, "at", event.FormatTime(e.Recorded.At), !e.Recorded.At.IsZero())
	text(recorded, "principal", e.Recorded.Principal)
	text(recorded, "via", e.Recorded.Via)
	text(recorded, "attribution", e.Recorded.Attribution)
	put(recorded, "uncatalogued", true, e.Recorded.Uncatalogued)
	text(m, "id", e.ID.String())
	text(m, "name", e.Name)
	text(m, "eventType", e.EventType)
	put(m, "timestamp", event.FormatTime(e.Timestamp), !e.Timestamp.IsZero())
	text(m, "category", e.Category)
	text(m, "action", e.Action)
	text(m, "outcome", e.Outcome)
	text(m, "severity", e.Severity)
	text(m, "correlationID", e.CorrelationID)
	text(m, "parentID", e.ParentID.String())
	text(m, "cluster", e.Cluster)
	text(m, "fact", e.Fact)
	put(m, "durationMs", e.DurationMs, e.DurationMs != 0)
	put(m, "retentionDays", e.RetentionDays, e.RetentionDays != 0)
	put(m, "sensitive", true, e.Sensitive)
	put(m, "ledger", e.Ledger, len(e.Ledger) > 0)
	if e.Source != (event.Source{}) {
		source := map[string]any{}
		text(source, "epoch", e.Source.Epoch)
		text(source, "name", e.Source.Name)
		put(source, "seq", e.Source.Seq, e.Source.Seq != 0)
		m["source"] = source
	}
	if e.Error != (event.Failure{}) {
		failure := map[string]any{}
		text(failure, "code", e.Error.Code)
		if e.Error.Message != "" {
			failure["messageDigest"] = digest(e.Error.Message)
		}
		m["error"] = failure
	}
	details := any(map[string]any{})
	if len(e.Details) > 0 {
		details = e.Details
	}
	m["detailsDigest"] = digest(details)
	if len(e.Original) > 0 {
		m["originalDigest"] = digest(e.Original)
	}
	encoded, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	canonical, err := jcs.Transform(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return canonical
}

func TestAnEntryHoldsWhatTwoImplementationsAgreeOn(t *testing.T) {
	salt := event.Salt{0: 1, 15: 255}
	for name, doc := range map[string]string{
		"every member":            full,
		"few members":             minimal,
		"characters to escape":    with(t, full, "cluster", `"\u2028<&>\"\\\u001f\ud83d\ude00\u007f/"`),
		"an error without a code": with(t, minimal, "error", `{"message":"m"}`),
		"an error without a word": with(t, minimal, "error", `{"code":"c"}`),
		"a source without a name": with(t, minimal, "source", `{"seq":1}`),
		"details of many kinds":   with(t, minimal, "details", `{"\ud83d\ude00":1e21,"\uffff":[null,true,-0,1.5e-7],"<":{"b":{},"a":[]}}`),
	} {
		t.Run(name, func(t *testing.T) {
			e := complete(t, doc)
			e.Recorded.At, e.Recorded.Principal = now, "p"
			if got, want := e.AppendEntry(nil, e.Digests(salt)), reference(t, e, salt); !bytes.Equal(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

// returns checks that the entry says of e everything but what may be erased,
// and that the erasable content brings that back.
func returns(t *testing.T, e *event.Event, salt event.Salt) {
	t.Helper()
	digests := e.Digests(salt)
	entry := e.AppendEntry(nil, digests)
	back, d, err := event.ParseEntry(entry)
	if err != nil {
		t.Fatalf("%v in our own %s", err, entry)
	}
	if !d.Equal(digests) {
		t.Fatalf("other digests in %s", entry)
	}
	if got := back.AppendEntry(nil, d); !bytes.Equal(got, entry) {
		t.Fatalf("went %s\ncame %s", entry, got)
	}
	if back.Details != nil || back.Error.Message != "" || back.Original != nil {
		t.Fatal("the entry holds what must be erasable")
	}
	content := e.AppendErasable(nil)
	if err := back.SetErasable(content); err != nil {
		t.Fatalf("%v in our own %s", err, content)
	}
	if got, want := back.AppendJSON(nil), e.AppendJSON(nil); !bytes.Equal(got, want) {
		t.Fatalf("went %s\ncame %s", want, got)
	}
	if !back.Digests(salt).Equal(digests) {
		t.Fatal("the content that came back has other digests")
	}
	if again := back.AppendErasable(nil); !bytes.Equal(again, content) {
		t.Fatalf("went %s\ncame %s", content, again)
	}
}

func TestEntryAndErasableContentMakeTheEventWhole(t *testing.T) {
	for name, doc := range map[string]string{"every member": full, "few members": minimal} {
		t.Run(name, func(t *testing.T) {
			e := complete(t, doc)
			e.Recorded = event.Recorded{At: now, Principal: "p", Via: "token", Attribution: event.AttributionAsserted}
			returns(t, e, event.Salt{7})
		})
	}
}

func TestDigestsAreThoseOfSaltAndContent(t *testing.T) {
	salt := event.Salt{0xde, 0xad, 0xbe, 0xef}
	e := complete(t, full)
	sum := func(content string) [32]byte { return sha256.Sum256([]byte(string(salt[:]) + content)) }
	d := e.Digests(salt)
	if *d.Details != sum(`{"action":"Rollback","target":"deployment/api"}`) || *d.Message != sum(`"it broke"`) || *d.Original != sum(`{"severity":"error"}`) {
		t.Error("other digests")
	}
	d = complete(t, minimal).Digests(salt)
	if *d.Details != sum(`{}`) || d.Message != nil || d.Original != nil {
		t.Error("other digests where there is nothing")
	}
	if e.Digests(salt).Equal(e.Digests(event.Salt{})) {
		t.Error("the salt does not count")
	}
}

func TestAnEntryIsReadStrictly(t *testing.T) {
	e := complete(t, full)
	e.Recorded.At = now
	entry := string(e.AppendEntry(nil, e.Digests(event.Salt{})))
	for _, tt := range []struct{ name, in, field, want string }{
		{"another version", strings.Replace(entry, `"v":1`, `"v":2`, 1), "v", "not version 1 of the entry format"},
		{"details", with(t, entry, "details", "{}"), "details", "no such member of an entry"},
		{"an unknown member", with(t, entry, "new", "1"), "new", "no such member of an entry"},
		{"a message", with(t, entry, "error", `{"message":"m"}`), "error.message", "no such member"},
		{"an unknown member of recorded", with(t, entry, "recorded", `{"new":1}`), "recorded.new", "no such member"},
		{"no digest", strings.Replace(entry, "detailsDigest", "originalDigest", 1), "originalDigest", "stands twice"},
		{"a short digest", with(t, entry, "detailsDigest", `"ab"`), "detailsDigest", "not 64 hexadecimal digits"},
		{"a digest in other letters", with(t, entry, "detailsDigest", `"`+strings.Repeat("g", 64)+`"`), "detailsDigest", "not 64 hexadecimal digits"},
		{"an empty entry", `{}`, "detailsDigest", "missing"},
		{"two entries", entry + entry, "body", "unexpected an object after the end"},
		{"nothing", ``, "body", "expected an object, found the end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := event.ParseEntry([]byte(tt.in))
			fails(t, err, tt.field, tt.want)
		})
	}
}

func TestErasableContentIsReadStrictly(t *testing.T) {
	for _, tt := range []struct{ name, in, field, want string }{
		{"an unknown member", `{"salt":"x"}`, "salt", "no such member"},
		{"a member that stands twice", `{"message":"a","message":"b"}`, "message", "stands twice"},
		{"details that are no object", `{"details":[]}`, "details", "expected an object, found an array"},
		{"two contents", `{}{}`, "body", "unexpected an object after the end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := complete(t, full)
			before := string(e.AppendJSON(nil))
			fails(t, e.SetErasable([]byte(tt.in)), tt.field, tt.want)
			if after := string(e.AppendJSON(nil)); after != before {
				t.Errorf("the event was changed to %s", after)
			}
		})
	}
	e := complete(t, full)
	if err := e.SetErasable([]byte(`{}`)); err != nil || e.Details != nil || e.Error.Message != "" || e.Original != nil {
		t.Errorf("erased content stays: %s (%v)", e.AppendJSON(nil), err)
	}
}

// FuzzEntry holds every valid event's entry against another implementation.
func FuzzEntry(f *testing.F) {
	f.Add([]byte(full), "principal", "token", int64(1), []byte(`{"b":1,"a":[true]}`), []byte("salt"))
	f.Add([]byte(minimal), "", "", int64(-1), []byte(nil), []byte(nil))
	f.Fuzz(func(t *testing.T, doc []byte, principal, via string, at int64, ledger, salted []byte) {
		e, err := event.Parse(doc)
		if err != nil {
			t.Skip()
		}
		e.Complete(now)
		if e.Validate(now) != nil {
			t.Skip()
		}
		// What the server adds is of its own making.
		e.Recorded.Principal, e.Recorded.Via = strings.ToValidUTF8(strings.ReplaceAll(principal, "\x00", ""), ""), strings.ToValidUTF8(strings.ReplaceAll(via, "\x00", ""), "")
		e.Recorded.At = now.Add(time.Duration(at % int64(1e18)))
		var facts event.Event
		if facts.SetDetails(ledger) == nil {
			e.Ledger = facts.Details
		}
		var salt event.Salt
		copy(salt[:], salted)
		if got, want := e.AppendEntry(nil, e.Digests(salt)), reference(t, e, salt); !bytes.Equal(got, want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		returns(t, e, salt)
	})
}

// FuzzParseEntry reads entries that somebody else wrote.
func FuzzParseEntry(f *testing.F) {
	e := complete(f, full)
	f.Add(e.AppendEntry(nil, e.Digests(event.Salt{})), e.AppendErasable(nil))
	f.Fuzz(func(t *testing.T, entry, content []byte) {
		e, d, err := event.ParseEntry(entry)
		if err != nil {
			return
		}
		if err := e.SetErasable(content); err != nil {
			return
		}
		if again := e.AppendErasable(nil); !json.Valid(again) {
			t.Fatalf("not JSON: %s", again)
		}
		if again := e.AppendEntry(nil, d); !json.Valid(again) {
			t.Fatalf("not JSON: %s", again)
		}
	})
}
