package trail_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/trail"
)

// record makes the record of an event with everything that may be erased.
func record(t testing.TB, change func(*event.Event)) (trail.Record, *event.Event) {
	t.Helper()
	now := time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC)
	e := &event.Event{EventType: "IssueCreated", Timestamp: now, Actor: event.Actor{Type: "human", Name: "kim"}, ID: event.DeriveID("x"),
		Resource: event.Resource{Kind: "Issue", Name: "i"}, Error: event.Failure{Code: "E1", Message: `it "failed","original":{`}}
	if err := e.SetDetails(map[string]any{"b": 1, "a": map[string]any{"message": "m", "detailsDigest": "x"}}); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(e)
	}
	e.Complete(now)
	e.Recorded = event.Recorded{At: now, Principal: "p", Via: "token", Attribution: event.AttributionAsserted}
	if err := e.Validate(now); err != nil {
		t.Fatal(err)
	}
	r := trail.Record{Index: 7, Salt: event.Salt{1, 2, 3}}
	r.Entry = e.AppendEntry(nil, e.Digests(r.Salt))
	r.Erasable = e.AppendErasable(nil)
	r.Chain = trail.Link(trail.Hash{9}, r.Entry)
	return r, e
}

func TestARecordIsReadAsItIsFramed(t *testing.T) {
	t.Parallel()
	r, e := record(t, nil)
	erased := r
	erased.Salt, erased.Erasable = event.Salt{}, nil
	for _, want := range []trail.Record{r, erased} {
		body := want.AppendFrame(nil)
		got, err := trail.ParseFrame(body)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		read, err := got.Event()
		if err != nil {
			t.Fatal(err)
		}
		if want := e.AppendJSON(nil); want != nil && got.Erasable != nil && !bytes.Equal(read.AppendJSON(nil), want) {
			t.Errorf("event %s, want %s", read.AppendJSON(nil), want)
		}
		if got.Erasable == nil && (read.Details != nil || read.Error.Message != "" || read.Original != nil) {
			t.Errorf("an erased event has %+v", read)
		}
		if err := got.CheckErasable(); err != nil {
			t.Error(err)
		}
	}
	body := r.AppendFrame(nil)
	for n := range body[:61] {
		if _, err := trail.ParseFrame(body[:n]); err == nil {
			t.Errorf("%d bytes were read as a record", n)
		}
	}
	for _, at := range []int{0, 8, 60} { // kind, sign of the index, entry's length
		bad := bytes.Clone(body)
		bad[at] |= 0x80
		if _, err := trail.ParseFrame(bad); err == nil {
			t.Errorf("byte %d was changed, and the record read", at)
		}
	}
}

// pruned returns what is left of a record when its entry is erased.
func pruned(t testing.TB, r trail.Record) *trail.Record {
	t.Helper()
	left, err := r.Prune()
	if err != nil {
		t.Fatal(err)
	}
	return &left
}

func prunedLine(t testing.TB, r trail.Record) *trail.Line {
	t.Helper()
	left := pruned(t, r)
	e, err := left.Event()
	if err != nil {
		t.Fatal(err)
	}
	return &trail.Line{Event: e, Record: *left, Previous: trail.Hash{9}}
}

func TestOfAnErasedEntryItsHashesAreLeftAndWhatTellsItFromOthers(t *testing.T) {
	t.Parallel()
	r, e := record(t, func(e *event.Event) { e.Source = event.Source{Name: "s", Seq: 5} })
	left := pruned(t, r)
	if left.Leaf == nil || *left.Leaf != trail.LeafHash(r.Entry) || left.LeafHash() != r.LeafHash() || left.Chain != r.Chain || left.Link(trail.Hash{1}) != r.Chain || left.Erasable != nil {
		t.Errorf("%+v", left)
	}
	was, err := left.Event()
	if err != nil || was.ID != e.ID || !was.Timestamp.Equal(e.Timestamp) || was.Source != e.Source || was.EventType != "" || was.Actor.Name != "" {
		t.Errorf("%+v, %v", was, err)
	}
	if again := pruned(t, *left); !reflect.DeepEqual(again, left) {
		t.Errorf("%+v was erased again: %+v", left, again)
	}
	body := left.AppendFrame(nil)
	if got, err := trail.ParseFrame(body); err != nil || !reflect.DeepEqual(&got, left) {
		t.Errorf("%+v, %v, want %+v", got, err, left)
	}
	for n := range body[:74] {
		if _, err := trail.ParseFrame(body[:n]); err == nil {
			t.Errorf("%d bytes were read as what is left of a record", n)
		}
	}
	text := prunedLine(t, r).Append(nil)
	l, _, err := trail.ParseLine(text)
	if err != nil || !reflect.DeepEqual(&l.Record, left) {
		t.Fatalf("%+v, %v, want %+v", l, err, left)
	}
	if err := l.Check(text); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{`"salt":"01020300000000000000000000000000","leaf":`, `"leaf":"00","leaf":`, `"leaf":1,"x":`} {
		if _, _, err := trail.ParseLine([]byte(strings.Replace(string(text), `"leaf":`, bad, 1))); err == nil {
			t.Errorf("a line with %s was read", bad)
		}
	}
	own, _ := record(t, func(e *event.Event) { e.Ledger = json.RawMessage(`{"created":{}}`) })
	if kept := pruned(t, own); kept.Leaf != nil || !bytes.Equal(kept.Entry, own.Entry) || kept.Erasable != nil {
		t.Errorf("of an entry that verification rests on, %+v is left", kept)
	}
}

func FuzzParseFrame(f *testing.F) {
	r, _ := record(f, nil)
	f.Add(r.AppendFrame(nil))
	f.Add(pruned(f, r).AppendFrame(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := trail.ParseFrame(body)
		if err != nil {
			return
		}
		if again := r.AppendFrame(nil); !bytes.Equal(again, body) {
			t.Errorf("%q was read as %+v", body, r)
		}
		_, _ = r.Event()
		_ = r.CheckErasable()
	})
}

func TestErasableContentMatchesItsDigestsInEveryByte(t *testing.T) {
	t.Parallel()
	shapes := map[string]func(*event.Event){
		"everything":   nil,
		"details only": func(e *event.Event) { e.Error, e.Actor.Type = event.Failure{}, "user" },
		"nothing":      func(e *event.Event) { e.Error, e.Actor.Type, e.Details = event.Failure{}, "user", nil },
		"a message":    func(e *event.Event) { e.Details, e.Actor.Type = nil, "user" },
		"a spelling":   func(e *event.Event) { e.Details, e.Error = nil, event.Failure{} },
		"the ledger's own facts": func(e *event.Event) {
			e.Ledger = json.RawMessage(`{"detailsDigest":"x","originalDigest":"y"}`)
		},
	}
	for name, change := range shapes {
		r, _ := record(t, change)
		if err := r.CheckErasable(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		content := bytes.Clone(r.Erasable)
		try := func(what string, bad []byte, salt event.Salt) {
			bent := r
			bent.Erasable, bent.Salt = bad, salt
			var e *trail.ErasableError
			if err := bent.CheckErasable(); !errors.As(err, &e) {
				t.Errorf("%s, %s: %v for %q", name, what, err, bad)
			}
		}
		for at := range content {
			for bit := range 8 {
				bad := bytes.Clone(content)
				bad[at] ^= 1 << bit
				try("a bit changed", bad, r.Salt)
			}
			try("a byte removed", append(bytes.Clone(content[:at]), content[at+1:]...), r.Salt)
			try("a space added", append(append(bytes.Clone(content[:at]), ' '), content[at:]...), r.Salt)
		}
		for at := range r.Salt {
			salt := r.Salt
			salt[at] ^= 1
			try("the salt changed", content, salt)
		}
		try("members added", append(bytes.TrimSuffix(content, []byte("}")), `,"message":"x"}`...), r.Salt)
		try("erased without the salt", nil, r.Salt)
		try("empty", []byte{}, event.Salt{})
	}
}

func TestALineIsReadAsItIsWritten(t *testing.T) {
	t.Parallel()
	r, e := record(t, nil)
	for _, proof := range []tlog.RecordProof{nil, {}, {{1}, {2}}} {
		line := trail.Line{Event: e, Record: r, Previous: trail.Hash{9}, Proof: proof}
		text := bytes.TrimSuffix(line.Append(nil), []byte("\n"))
		got, trailer, err := trail.ParseLine(text)
		if err != nil || trailer != nil {
			t.Fatal(trailer, err)
		}
		if !bytes.Equal(bytes.TrimSuffix(got.Append(nil), []byte("\n")), text) || !reflect.DeepEqual(got.Record, r) || (got.Proof == nil) != (proof == nil) {
			t.Errorf("%+v", got)
		}
		if err := got.Check(text); err != nil {
			t.Error(err)
		}
	}
	r.Salt, r.Erasable = event.Salt{}, nil
	read, err := r.Event()
	if err != nil {
		t.Fatal(err)
	}
	line := trail.Line{Event: read, Record: r, Previous: trail.Hash{9}}
	text := line.Append(nil)
	if bytes.Contains(text, []byte(`"salt"`)) {
		t.Errorf("an erased line has a salt: %s", text)
	}
	got, _, err := trail.ParseLine(text)
	if err != nil || got.Record.Erasable != nil || got.Check(text) != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTheTrailerIsTheLineWithACheckpoint(t *testing.T) {
	t.Parallel()
	for _, want := range []trail.Trailer{
		{Checkpoint: "a\n1\nb\n\n— a c\n", Filter: map[string]string{}, Count: 1},
		{Checkpoint: "x", Filter: map[string]string{"type": "a", "from": "b"}, Count: 0},
	} {
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		line, got, err := trail.ParseLine(text)
		if err != nil || line != nil || !reflect.DeepEqual(*got, want) || got.Whole() != (len(want.Filter) == 0) {
			t.Errorf("%+v, %+v, %v", line, got, err)
		}
	}
}

func TestMalformedLinesAreRefused(t *testing.T) {
	t.Parallel()
	r, e := record(t, nil)
	line := trail.Line{Event: e, Record: r, Previous: trail.Hash{9}, Proof: tlog.RecordProof{{1}}}
	good := strings.TrimSuffix(string(line.Append(nil)), "\n")
	hash := trail.Hex(r.Chain)
	tests := []struct{ name, old, with, want string }{
		{"no index", `"index":7`, `"Index":7`, "no member index"},
		{"no entry", `"entry":`, `"Entry":`, "no member entry"},
		{"no hash", `,"hash":"` + hash + `"`, ``, "no member hash"},
		{"an index twice", `"index":7`, `"index":7,"index":8`, "stands twice"},
		{"an unknown member twice", `"index":7`, `"index":7,"x":1,"x":1`, "stands twice"},
		{"an event's member twice", `"index":7`, `"index":7,"outcome":"success"`, "stands twice"},
		{"a negative index", `"index":7`, `"index":-7`, "negative"},
		{"a huge index", `"index":7`, `"index":9007199254740993`, "whole number"},
		{"an index that is no number", `"index":7`, `"index":"7"`, "whole number"},
		{"a short hash", `"hash":"` + hash[:1], `"hash":"`, "64 lower-case hexadecimal digits"},
		{"a hash that is none", `"hash":"` + hash[:1], `"hash":"x`, "64 lower-case hexadecimal digits"},
		{"a hash in upper case", `"hash":"` + hash, `"hash":"` + strings.ToUpper(hash), "64 lower-case hexadecimal digits"},
		{"a short salt", `"salt":"01`, `"salt":"`, "32 lower-case hexadecimal digits"},
		{"a proof that is none", `"proof":["AQ`, `"proof":["?`, "malformed hash"},
		{"a proof with other unused bits", `AAA="]`, `AAB="]`, "malformed hash"},
		{"a null proof", `"proof":["AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]`, `"proof":null`, "expected an array"},
		{"more behind the line", `"]}`, `"]} {}`, "after the end"},
		{"an event that cannot be read", `"timestamp":"2026`, `"timestamp":"20x6`, "timestamp"},
	}
	if _, _, err := trail.ParseLine([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(good, tt.old) {
				t.Fatalf("no %s in %s", tt.old, good)
			}
			_, _, err := trail.ParseLine([]byte(strings.Replace(good, tt.old, tt.with, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestALineSaysWhatItsEntrySays(t *testing.T) {
	t.Parallel()
	r, e := record(t, nil)
	line := trail.Line{Event: e, Record: r, Previous: trail.Hash{9}}
	good := string(line.Append(nil))
	tests := []struct {
		name, old, with, want string
		erasable              bool
	}{
		{"a member", `"name":"kim"`, `"name":"tim"`, `"actor.name"`, false},
		{"a number", `"retentionDays":2555`, `"retentionDays":2554`, `"retentionDays"`, false},
		{"a member more", `"index":7`, `"cluster":"c","index":7`, `"cluster"`, false},
		{"a space", `"index":7`, `"index": 7`, "form", false},
		{"an unknown member", `"index":7`, `"x":1,"index":7`, "form", false},
		{"details", `"b":1`, `"b":2`, "details", true},
		{"the message", `it \"failed`, `it \"worked`, "error message", true},
		{"the spelling", `"human"`, `"person"`, "original", true},
		{"no message", `,"message":"it \"failed\",\"original\":{"`, ``, "error message", true},
		{"no salt", `,"salt":"01020300000000000000000000000000"`, ``, "no salt", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := []byte(strings.Replace(good, tt.old, tt.with, 1))
			if string(text) == good {
				t.Fatalf("no %s in %s", tt.old, good)
			}
			l, _, err := trail.ParseLine(text)
			if err != nil {
				t.Fatal(err)
			}
			err = l.Check(text)
			var erasable *trail.ErasableError
			if err == nil || !strings.Contains(err.Error(), tt.want) || errors.As(err, &erasable) != tt.erasable {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzParseLine(f *testing.F) {
	r, e := record(f, nil)
	line := trail.Line{Event: e, Record: r, Previous: trail.Hash{9}, Proof: tlog.RecordProof{{1}}}
	f.Add(line.Append(nil))
	f.Add(prunedLine(f, r).Append(nil))
	f.Add([]byte(`{"checkpoint":"a\n1\nb\n\n— a c\n","filter":{},"count":1}`))
	f.Add([]byte(`{"checkpoint":"a\n2\nb\n\n— a c\n","filter":{},"count":2,"cosigned":"a\n1\nb\n\n— a c\n","extends":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, trailer, err := trail.ParseLine(text)
		if err == nil && trailer != nil {
			if c, err := trail.ReadCheckpoint([]byte(trailer.Checkpoint)); err == nil {
				_ = trailer.CheckExtends(c)
			}
		}
		if err != nil || trailer != nil {
			return
		}
		again, _, err := trail.ParseLine(l.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), l.Append(nil)) {
			t.Errorf("%q is written as %q, and that as %q (%v)", text, l.Append(nil), again.Append(nil), err)
		}
		_ = l.Check(text)
	})
}

func TestTheFirstEntryNamesOriginAndKey(t *testing.T) {
	t.Parallel()
	entry := func(facts string) []byte {
		r, _ := record(t, func(e *event.Event) {
			e.EventType, e.Ledger = "LedgerCreated", json.RawMessage(facts)
			if err := e.SetDetails(map[string]any{"origin": "o", "key": "k"}); err != nil {
				t.Fatal(err)
			}
		})
		return r.Entry
	}
	o, k, err := trail.Created(entry(`{"created":{"key":"k","more":1,"origin":"o"},"other":{}}`))
	if err != nil || o != "o" || k != "k" {
		t.Errorf("%q, %q, %v", o, k, err)
	}
	other, _ := record(t, nil)
	for _, bad := range [][]byte{nil, []byte("{}"), other.Entry, entry(`{}`), entry(`{"created":1}`)} {
		if _, _, err := trail.Created(bad); err == nil {
			t.Errorf("no error for %s", bad)
		}
	}
}
