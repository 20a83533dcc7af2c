package client_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

// refusing makes a recorder with two events in quarantine, numbers 2 and 3, closes
// it, and returns its directory.
func refusing(t *testing.T, l *ledger) string {
	t.Helper()
	dir := t.TempDir()
	r := record(t, l, client.RecorderConfig{Dir: dir})
	l.set(func(events []*event.Event, _ []byte) *http.Response {
		for _, e := range events {
			if strings.HasPrefix(e.Resource.Name, "bad") {
				return status(http.StatusBadRequest, "bad", 0)
			}
		}
		return nil
	})
	put(t, r, "a", "bad 1", "bad 2", "b")
	if err := r.Flush(t.Context()); err == nil {
		t.Fatal("nothing was refused")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// deliver runs a recorder on a directory until all of it is delivered, and
// returns what the ledger has.
func deliver(t *testing.T, l *ledger, dir string) (names []string, told []*event.Event) {
	t.Helper()
	r := record(t, l, client.RecorderConfig{Dir: dir})
	for range 2 { // what the first tells, too
		if err := r.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.Resource.Kind == "QuarantinedEvent" {
			told = append(told, e)
		} else if e.EventType != event.TypeRepeated {
			names = append(names, e.Resource.Name)
		}
	}
	return names, told
}

func keys(t *testing.T, dir string) (keys []string) {
	t.Helper()
	list, torn, err := client.ReadQuarantine(dir)
	if err != nil || torn > 0 {
		t.Fatal(torn, err)
	}
	for _, q := range list {
		_, number, _ := strings.Cut(q.Key(), ":")
		keys = append(keys, number)
	}
	return keys
}

func TestWhatIsInQuarantineIsSentAgainOrDroppedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l ledger
		dir := refusing(t, &l)
		if got := fmt.Sprint(keys(t, dir)); got != "[2 3]" {
			t.Fatal(got)
		}
		q, err := client.OpenQuarantine(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.Retry(t.Context(), "2", "alice"); err != nil {
			t.Fatal(err)
		}
		if _, err := q.Drop(t.Context(), "3", "bob", "a test"); err != nil {
			t.Fatal(err)
		}
		for what, err := range map[string]error{
			"again":            func() error { _, err := q.Retry(t.Context(), "2", "alice"); return err }(),
			"what is not":      func() error { _, err := q.Drop(t.Context(), "77", "bob", "r"); return err }(),
			"without a name":   func() error { _, err := q.Retry(t.Context(), "2", " "); return err }(),
			"without a reason": func() error { _, err := q.Drop(t.Context(), "3", "bob", ""); return err }(),
		} {
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		}
		if got := keys(t, dir); len(got) > 0 {
			t.Errorf("%s is still in quarantine", got)
		}
		if err := q.Close(); err != nil {
			t.Fatal(err)
		}
		l.set(nil)
		names, told := deliver(t, &l, dir)
		if fmt.Sprint(names) != "[a b bad 1]" || len(told) != 2 {
			t.Fatalf("%s, told %d", names, len(told))
		}
		for i, want := range []struct{ eventType, by, number, says string }{{event.TypeRetried, "alice", ":2", "bad"}, {event.TypeDropped, "bob", ":3", "a test"}} {
			e := told[i]
			if e.EventType != want.eventType || e.Actor.Name != want.by || e.Resource.Name != "operator-0" || !strings.HasSuffix(e.Resource.UID, want.number) || !strings.Contains(string(e.Details), want.says) {
				t.Errorf("%s", e.AppendJSON(nil))
			}
		}
	})
}

// TestADecisionIsCarriedOutOnceWhereverItIsKilled takes a decision, and then away
// what a program that was killed at each moment would not have written.
func TestADecisionIsCarriedOutOnceWhereverItIsKilled(t *testing.T) {
	for _, verb := range []string{"retry", "drop"} {
		for _, written := range []string{"the decision", "the decision and a part of what it puts into the spool", "all but that it is done"} {
			t.Run(verb+", "+written, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var l ledger
					dir := refusing(t, &l)
					before := t.TempDir()
					if err := os.CopyFS(filepath.Join(before, "spool"), os.DirFS(dir)); err != nil {
						t.Fatal(err)
					}
					q, err := client.OpenQuarantine(dir)
					if err != nil {
						t.Fatal(err)
					}
					if verb == "retry" {
						_, err = q.Retry(t.Context(), "3", "alice")
					} else {
						_, err = q.Drop(t.Context(), "3", "alice", "a test")
					}
					if err := errors.Join(err, q.Close()); err != nil {
						t.Fatal(err)
					}
					file := filepath.Join(dir, "quarantine.ndjson")
					data, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					lines := strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
					decided := strings.Join(lines[:len(lines)-1], "")
					switch written {
					case "the decision":
						dir = filepath.Join(before, "spool")
						file = filepath.Join(dir, "quarantine.ndjson")
					case "the decision and a part of what it puts into the spool":
						segments, err := filepath.Glob(filepath.Join(dir, "queue", "*.seg"))
						if err != nil || len(segments) == 0 {
							t.Fatal(err)
						}
						text, err := os.ReadFile(segments[len(segments)-1])
						if err != nil {
							t.Fatal(err)
						}
						end := len(strings.TrimRight(string(text), "\x00"))
						clear(text[end-100:])
						if err := os.WriteFile(segments[len(segments)-1], text, 0o600); err != nil {
							t.Fatal(err)
						}
						decided += `{"at":` // and a line was torn
					}
					if err := os.WriteFile(file, []byte(decided), 0o600); err != nil {
						t.Fatal(err)
					}
					l.set(nil)
					r := record(t, &l, client.RecorderConfig{Dir: dir})
					if err := r.Close(); err != nil { // which it may be killed at, too
						t.Fatal(err)
					}
					r = record(t, &l, client.RecorderConfig{Dir: dir})
					r.Flush(t.Context()) // tells of what was torn
					if err := r.Close(); err != nil {
						t.Fatal(err)
					}
					names, told := deliver(t, &l, dir)
					want := map[string]string{"retry": "[a b bad 2]", "drop": "[a b]"}[verb]
					if fmt.Sprint(names) != want || len(told) != 1 || !strings.HasSuffix(told[0].Resource.UID, ":3") {
						t.Errorf("%s, told %d", names, len(told))
					}
					list, _, err := client.ReadQuarantine(dir)
					for _, q := range list {
						if q.Number != 2 && q.Event != nil || err != nil {
							t.Errorf("%s is in quarantine, %v", q.Key(), err)
						}
					}
				})
			})
		}
	}
}

func TestWhatIsNoEventCanOnlyBeDropped(t *testing.T) {
	dir := t.TempDir()
	r := record(t, &ledger{}, client.RecorderConfig{Dir: dir})
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	text := `{"at":"2026-03-19T14:30:00Z","epoch":"e","number":4,"count":2,"reason":"damaged","bytes":"AAEC"}
{"at":"2026-03-19T14:30:00Z","epoch":"e","number":7,"count":0,"reason":"damaged","bytes":"AAEC"}
`
	if err := os.WriteFile(filepath.Join(dir, "quarantine.ndjson"), []byte(text+"torn{\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	q, err := client.OpenQuarantine(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	if _, torn, err := q.List(); torn != 1 || err != nil {
		t.Errorf("%d lines are torn, %v", torn, err)
	}
	if _, err := q.Retry(t.Context(), "e:4-5", "alice"); !errors.Is(err, client.ErrNoEvent) {
		t.Error(err)
	}
	for _, key := range []string{"e:4-5", "e:7+"} {
		if _, err := q.Drop(t.Context(), key, "alice", "damaged"); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	if list, _, err := q.List(); len(list) > 0 || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
	if _, err := client.OpenQuarantine(filepath.Join(dir, "nowhere")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	server := t.TempDir()
	if err := os.WriteFile(filepath.Join(server, "origin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := client.OpenQuarantine(server); err == nil || !strings.Contains(err.Error(), "the spool of a server") {
		t.Error(err)
	}
}

func FuzzReadQuarantine(f *testing.F) {
	f.Add(`{"at":"2026-03-19T14:30:00Z","epoch":"e","number":4,"count":2,"reason":"damaged","bytes":"AAEC"}` + "\n" + `{"epoch":"e","number":4,"count":2,"done":"x"}`)
	f.Add(`{"number":1,"count":1,"event":{}}` + "\n" + `{"number":1,"count":1,"decision":"QuarantineDropped","by":"a"}` + "\n{")
	f.Add("[]\nnull\n7")
	f.Fuzz(func(t *testing.T, text string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "quarantine.ndjson"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		list, torn, err := client.ReadQuarantine(dir)
		if err != nil || len(list)+torn > strings.Count(text, "\n")+1 {
			t.Fatalf("%d, %d torn, %v", len(list), torn, err)
		}
		seen := map[string]bool{}
		for _, q := range list {
			if seen[q.Key()] {
				t.Errorf("%s stands there twice", q.Key())
			}
			seen[q.Key()] = true
		}
	})
}
