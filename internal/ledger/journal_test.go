package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/testkey"
)

// A bureau is a ledger in memory with a journal, in a bubble of time.
type bureau struct {
	*memory
	t       *testing.T
	ledger  *ledger.Ledger
	journal *ledger.Journal
	closed  bool
}

// inBubble runs fn with a bureau whose time passes only when all wait.
func inBubble(t *testing.T, fn func(t *testing.T, b *bureau)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newStore()
		signer, _, vkey := testkey.New(t, "test.example/ledger")
		l, err := ledger.Open(t.Context(), ledger.Config{Store: m, Signer: signer, VerifierKey: vkey})
		if err != nil {
			t.Fatal(err)
		}
		b := &bureau{memory: m, t: t, ledger: l, journal: ledger.NewJournal(l)}
		fn(t, b)
		b.close()
	})
}

// close ends journal and ledger.
func (b *bureau) close() {
	if !b.closed {
		b.closed = true
		b.journal.Close()
		b.ledger.Close()
	}
}

// read is the act of reading by a route.
func read(principal, route string) ledger.Act {
	return ledger.Act{Type: "AuditRead", By: ledger.By{Principal: principal, Via: "token"}, Key: route, Details: map[string]any{"route": route}}
}

func (b *bureau) act(a ledger.Act) {
	b.t.Helper()
	if err := b.journal.Record(b.t.Context(), a); err != nil {
		b.t.Fatal(err)
	}
}

// wrote checks what was recorded of a type, each as principal, route and count.
func (b *bureau) wrote(eventType string, want ...string) {
	b.t.Helper()
	synctest.Wait()
	var got []string
	for _, e := range b.told(b.t, eventType) {
		d := details(b.t, e)
		got = append(got, strings.TrimSpace(fmt.Sprintf("%s %v %v", e.Recorded.Principal, d["route"], d["count"])))
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("recorded\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func details(t *testing.T, e *event.Event) map[string]any {
	t.Helper()
	m := map[string]any{}
	if len(e.Details) > 0 {
		if err := json.Unmarshal(e.Details, &m); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func TestAnActIsRecordedAtOnceAndItsRepetitionsCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bureau) {
		b.act(read("alice", "list"))
		b.wrote("AuditRead", "alice list 1")
		began := time.Now()
		for range 4 {
			time.Sleep(10 * time.Second)
			b.act(read("alice", "list"))
		}
		b.wrote("AuditRead", "alice list 1")
		time.Sleep(35 * time.Second) // the minute is over, and the journal has looked
		b.wrote("AuditRead", "alice list 1", "alice list 4")
		d := details(t, b.told(t, "AuditRead")[1])
		if d["from"] != event.FormatTime(began) || d["to"] != event.FormatTime(began.Add(40*time.Second)) {
			t.Errorf("counted from %v to %v", d["from"], d["to"])
		}
		time.Sleep(time.Hour)
		b.wrote("AuditRead", "alice list 1", "alice list 4") // nothing more was to be counted
		b.act(read("alice", "list"))
		b.wrote("AuditRead", "alice list 1", "alice list 4", "alice list 1")
	})
}

func TestActsAreToldApart(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bureau) {
		for range 3 {
			b.act(read("alice", "list"))
			b.act(read("alice", "get"))
			b.act(read("bob", "list"))
		}
		denied := ledger.Act{Type: "PermissionDenied", By: ledger.By{Principal: "alice", Via: "token"}, Key: "list", Details: map[string]any{"principal": "alice", "permission": "read"}}
		b.act(denied)
		first := []string{"alice list 1", "alice get 1", "bob list 1"}
		b.wrote("AuditRead", first...)
		b.wrote("PermissionDenied", "alice <nil> 1")
		b.close()
		got := b.told(t, "AuditRead")
		if len(got) != 6 {
			t.Errorf("%d events", len(got))
		}
		for _, e := range got[3:] {
			if details(t, e)["count"] != 2.0 {
				t.Errorf("%s", e.Details)
			}
		}
	})
}

func TestAMinuteThatIsOverIsClosedByTheNextAct(t *testing.T) {
	c := newClock()
	m := newStore()
	l := start(t, m, on(c))
	j := ledger.NewJournal(l)
	counts := func() (list []float64) {
		for _, e := range m.told(t, "AuditRead") {
			list = append(list, details(t, e)["count"].(float64))
		}
		return list
	}
	act := func() {
		t.Helper()
		if err := j.Record(t.Context(), read("alice", "list")); err != nil {
			t.Fatal(err)
		}
	}
	act()
	act()
	c.move(time.Minute - 1)
	act()
	if got := counts(); !slices.Equal(got, []float64{1}) {
		t.Errorf("within the minute: %v", got)
	}
	c.move(1)
	act()
	if got := counts(); !slices.Equal(got, []float64{1, 2, 1}) {
		t.Errorf("behind it: %v", got)
	}
	c.move(-2 * time.Hour) // clocks are set back
	act()
	act()
	if got := counts(); !slices.Equal(got, []float64{1, 2, 1, 1}) {
		t.Errorf("before it: %v", got)
	}
	j.Close()
	if got := counts(); !slices.Equal(got, []float64{1, 2, 1, 1, 1}) {
		t.Errorf("at the end: %v", got)
	}
}

func TestSomeActsAreRecordedEach(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bureau) {
		for n := range 3 {
			err := b.journal.Once(t.Context(), ledger.Act{Type: "AuditExported", By: ledger.By{Principal: "alice", Via: "token"}, Details: map[string]any{"format": "csv", "size": n}})
			if err != nil {
				t.Error(err)
			}
		}
		err := b.journal.Once(t.Context(), ledger.Act{Type: "TokenRevoked", By: ledger.By{Principal: "alice", Via: "token"}, Resource: event.Resource{Kind: "Token", Name: "x"}, Details: map[string]any{"name": "x"}})
		if err != nil {
			t.Error(err)
		}
		for n, e := range b.told(t, "AuditExported") {
			if d := details(t, e); d["size"] != float64(n) || d["count"] != nil || e.Actor != (event.Actor{Type: event.ActorUser, Name: "alice"}) || e.Resource != (event.Resource{Kind: "Ledger", Name: "test.example/ledger"}) ||
				e.Recorded.Attribution != event.AttributionAuthenticated {
				t.Errorf("%s", e.AppendJSON(nil))
			}
		}
		if e := b.told(t, "TokenRevoked")[0]; e.Resource.Name != "x" {
			t.Errorf("%s", e.AppendJSON(nil))
		}
	})
}

// TestAnAttackerWithManyNamesFillsNeitherMemoryNorLedger goes beyond the acts
// that are told apart, with every type that the doors count.
func TestAnAttackerWithManyNamesFillsNeitherMemoryNorLedger(t *testing.T) {
	for eventType, with := range map[string]map[string]any{
		"AuditRead":            {"route": "list"},
		"AuthenticationFailed": {"source": "10.0.0.1", "reason": "the token is not valid"},
		"PermissionDenied":     {"principal": "x", "permission": "read", "route": "list"},
		"IdempotencyConflict":  {"id": "x", "index": 7, "principal": "x"},
	} {
		t.Run(eventType, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bureau) {
				attack := func(n int) {
					b.act(ledger.Act{Type: eventType, By: ledger.By{Principal: "attacker", Via: "token"}, Key: fmt.Sprint(n), Details: with})
				}
				for n := range 3000 {
					attack(n)
				}
				list := b.told(t, eventType)
				if len(list) > 1001 {
					t.Errorf("%d events", len(list))
				}
				// Others are still told by their names, in every type.
				b.act(ledger.Act{Type: eventType, By: ledger.By{Principal: "carl", Via: "token"}, Key: "k", Details: with})
				if list = b.told(t, eventType); list[len(list)-1].Recorded.Principal != "carl" || details(t, list[len(list)-1])["reason"] == "too many to tell apart" {
					t.Error("nobody knows of carl")
				}
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				list = b.told(t, eventType)
				last := list[len(list)-1]
				if d := details(t, last); d["count"] != 1999.0 || d["reason"] != "too many to tell apart" || last.Recorded.Principal != "attacker" || last.Actor.Name != "attacker" {
					t.Errorf("%d events, the last is %s", len(list), last.AppendJSON(nil))
				}
				attack(7)
				if list = b.told(t, eventType); details(t, list[len(list)-1])["reason"] == "too many to tell apart" {
					t.Error("a minute later they are not told apart again")
				}
			})
		})
	}
}

func TestWhatCannotBeRecordedMustNotGoOn(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bureau) {
		b.set(func(op string, _ *ledger.Pool) error {
			if op == "append" {
				return ledger.ErrFull
			}
			return nil
		})
		for range 3 {
			if err := b.journal.Record(t.Context(), read("alice", "list")); !errors.Is(err, ledger.ErrFull) {
				t.Errorf("got %v", err)
			}
			exported := ledger.Act{Type: "AuditExported", By: by, Details: map[string]any{"format": "csv", "size": 1}}
			if err := b.journal.Once(t.Context(), exported); !errors.Is(err, ledger.ErrFull) {
				t.Errorf("once: %v", err)
			}
		}
		b.set(nil)
		b.act(read("alice", "list"))
		b.act(read("alice", "list"))
		b.wrote("AuditRead", "alice list 1")
	})
}

func TestAJournalSaysWhatItCouldNotRecord(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bureau) {
		b.act(read("alice", "list"))
		b.act(read("alice", "list"))
		b.set(func(op string, _ *ledger.Pool) error {
			if op == "append" {
				return ledger.ErrFull
			}
			return nil
		})
		if err := b.journal.Close(); err == nil || !strings.Contains(err.Error(), "1 counts") {
			t.Errorf("got %v", err)
		}
		b.set(nil)
	})
}

func TestAllWhoActAtOnceWaitForTheOneRecord(t *testing.T) {
	for name, fault := range map[string]error{"that succeeds": nil, "that fails": ledger.ErrFull} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bureau) {
				g := b.gate()
				var callers sync.WaitGroup
				for range 20 {
					callers.Go(func() {
						if err := b.journal.Record(t.Context(), read("alice", "list")); !errors.Is(err, fault) {
							t.Errorf("got %v, want %v", err, fault)
						}
					})
				}
				if p := <-g.waiting; len(p.Records) != 1 {
					t.Errorf("a pool of %d", len(p.Records))
				}
				synctest.Wait() // all others wait
				b.set(nil)
				g.pass(fault)
				callers.Wait()
				b.close()
				if fault == nil {
					b.wrote("AuditRead", "alice list 1", "alice list 19")
				} else {
					b.wrote("AuditRead")
				}
			})
		})
	}
}

// TestACallerWhoGivesUpDoesNotFailTheOthers lets go of the one whose record
// the others wait for.
func TestACallerWhoGivesUpDoesNotFailTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bureau) {
		g := b.gate()
		impatient, giveUp := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			if err := b.journal.Record(impatient, read("alice", "list")); err != nil {
				t.Errorf("the record was made: %v", err)
			}
		})
		<-g.waiting
		for range 10 {
			callers.Go(func() {
				if err := b.journal.Record(t.Context(), read("alice", "list")); err != nil {
					t.Errorf("another caller got %v", err)
				}
			})
		}
		waiting, gone := context.WithCancel(t.Context())
		callers.Go(func() {
			if err := b.journal.Record(waiting, read("alice", "list")); !errors.Is(err, context.Canceled) {
				t.Errorf("one who gave up waiting got %v", err)
			}
		})
		synctest.Wait()
		giveUp()
		gone()
		synctest.Wait()
		b.set(nil)
		g.pass(nil)
		callers.Wait()
		b.close()
		b.wrote("AuditRead", "alice list 1", "alice list 11")
	})
}

// TestACountIsNotLost lets the disk be full when the minute is over.
func TestACountIsNotLost(t *testing.T) {
	for name, then := range map[string]func(b *bureau){
		"by the journal":  func(*bureau) {},
		"by the next act": func(b *bureau) { _ = b.journal.Record(b.t.Context(), read("alice", "list")) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bureau) {
				for range 5 {
					b.act(read("alice", "list"))
				}
				b.set(func(op string, _ *ledger.Pool) error {
					if op == "append" {
						return ledger.ErrFull
					}
					return nil
				})
				time.Sleep(time.Minute)
				then(b)
				time.Sleep(5 * time.Minute)
				b.wrote("AuditRead", "alice list 1")
				b.set(nil)
				time.Sleep(time.Minute)
				b.wrote("AuditRead", "alice list 1", "alice list 4")
			})
		})
	}
}

func TestTheLedgersOwnActsHaveTheLedgerAsActor(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bureau) {
		b.act(ledger.Act{Type: "AuthenticationFailed", By: ledger.By{Principal: "graven", Via: "internal"}, Key: "10.0.0.1", Details: map[string]any{"source": "10.0.0.1"}})
		if e := b.told(t, "AuthenticationFailed")[0]; e.Actor != (event.Actor{Type: event.ActorSystem, Name: "graven"}) {
			t.Errorf("%s", e.AppendJSON(nil))
		}
	})
}
