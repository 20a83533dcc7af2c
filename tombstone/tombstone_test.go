package tombstone_test

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/tombstone"
)

// tombstone returns an entry's event that says what was erased.
func stone(t *testing.T, asOf int64, runs ...tombstone.Run) *event.Event {
	t.Helper()
	member, err := json.Marshal((&tombstone.Tombstone{AsOf: asOf, Details: runs, Policies: "ab"}).Member())
	if err != nil {
		t.Fatal(err)
	}
	return &event.Event{EventType: tombstone.TypeRetentionRun, Ledger: member}
}

// entry returns the canonical bytes of an entry of the ledger's own.
func entry(t *testing.T, e *event.Event) []byte {
	t.Helper()
	e.Timestamp = time.Now().UTC()
	e.Recorded = event.Recorded{At: e.Timestamp, Principal: "graven", Via: "self"}
	e.Actor, e.Resource = event.Actor{Type: event.ActorSystem, Name: "graven"}, event.Resource{Kind: "Ledger", Name: "test"}
	e.Complete(e.Timestamp)
	if err := e.SetDetails(map[string]any{"n": 1}); err != nil {
		t.Fatal(err)
	}
	return e.AppendEntry(nil, e.Digests(event.Salt{}))
}

func TestATombstoneIsReadAsItWasWritten(t *testing.T) {
	want := tombstone.Tombstone{AsOf: 4096, Details: []tombstone.Run{{First: 0, Count: 256}, {First: 300, Count: 1}}, Policies: "ab"}
	got, err := tombstone.Parse(5000, stone(t, 4096, want.Details...).Ledger)
	if err != nil || got.AsOf != want.AsOf || !slices.Equal(got.Details, want.Details) || got.Policies != want.Policies {
		t.Errorf("got %+v, %v", got, err)
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func TestATombstoneOfEntriesSaysHowTheChainGoesOn(t *testing.T) {
	want := tombstone.Tombstone{AsOf: 600, Entries: 512, Kept: 3, Chain: [32]byte{1, 2, 31: 3}}
	member, err := json.Marshal(want.Member())
	if err != nil {
		t.Fatal(err)
	}
	got, err := tombstone.Parse(600, member)
	if err != nil || got.Entries != want.Entries || got.Kept != want.Kept || got.Chain != want.Chain {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, chain := range []string{"", zeros[2:], zeros + "00", zeros[1:] + "g"} {
		if _, err := tombstone.Parse(600, []byte(`{"erased":{"asOf":600,"entries":{"end":512,"chain":"`+chain+`"}}}`)); err == nil || !strings.Contains(err.Error(), "entries.chain") {
			t.Errorf("%q: %v", chain, err)
		}
	}
	var x tombstone.Erased
	x.Follow(600, &event.Event{EventType: tombstone.TypeRetentionRun, Ledger: member})
	if x.Pruned() != 512 || x.Kept() != 3 || !x.Names(511) || x.Names(512) {
		t.Errorf("pruned below %d", x.Pruned())
	}
}

func TestAnEntryThatIsGoneNeedsATombstoneAndTheChainItsValue(t *testing.T) {
	value := [32]byte{7}
	walk := func(end int64, pruned func(index int64) bool, stone *tombstone.Tombstone) *tombstone.Absence {
		var a tombstone.Absence
		for i := range end {
			body := "{}"
			if i < 512 && !pruned(i) {
				body = `{"ledger":{` // it is kept
			}
			a.Entry(i, value, []byte(body), pruned(i), pruned(i))
		}
		e := &event.Event{EventType: tombstone.TypeRetentionRun, Timestamp: time.Now(), ID: event.NewID(time.Now())}
		e.Ledger, _ = json.Marshal(stone.Member())
		a.Entry(end, value, entry(t, e), false, false)
		a.Seal(end + 1)
		return &a
	}
	below := func(end int64) func(int64) bool { return func(i int64) bool { return i > 0 && i < end } }
	good := &tombstone.Tombstone{AsOf: 700, Entries: 512, Kept: 1, Chain: value}
	a := walk(700, below(512), good)
	if err := a.Check(); err != nil {
		t.Error(err)
	}
	if end, pruned := a.Below(); end != 512 || pruned != 511 || a.Kept(701) != 1 {
		t.Errorf("%d below %d, %d are kept", pruned, end, a.Kept(701))
	}
	if err := walk(700, func(i int64) bool { return i < 512 }, good).Check(); err == nil || !strings.Contains(err.Error(), "1 of the entries below 512 were kept, as the tombstone says, and 0 are left") {
		t.Errorf("one that was kept: %v", err)
	}
	if end, pruned := walk(700, below(513), good).Below(); end != 512 || pruned != 511 {
		t.Errorf("%d below %d, and one behind", pruned, end)
	}
	if err := walk(700, below(513), good).Check(); !errors.Is(err, tombstone.ErrPruned) || !strings.Contains(err.Error(), "entry 512") {
		t.Errorf("one more: %v", err)
	}
	var hidden tombstone.Absence // one of ten that were kept, behind one that was put back
	for i := range int64(512) {
		body := "{}"
		if i > 0 && i < 10 {
			body = `{"ledger":{`
		}
		hidden.Entry(i, value, []byte(body), i >= 10, i >= 10)
	}
	e := &event.Event{EventType: tombstone.TypeRetentionRun, Timestamp: time.Now(), ID: event.NewID(time.Now())}
	e.Ledger, _ = json.Marshal((&tombstone.Tombstone{AsOf: 512, Entries: 512, Kept: 10, Chain: value}).Member())
	hidden.Entry(512, value, entry(t, e), false, false)
	hidden.Seal(513)
	if err := hidden.Check(); err == nil || !strings.Contains(err.Error(), "and 9 are left") {
		t.Errorf("one that was kept, where another was put back: %v", err)
	}
	tile := func(i int64) bool { return i > 0 && i < 256 } // and all of the next tile was kept
	if err := walk(700, tile, &tombstone.Tombstone{AsOf: 700, Entries: 512, Chain: [32]byte{8}}).Check(); err == nil || !strings.Contains(err.Error(), "entry 511") {
		t.Errorf("another value of the chain behind entries that were kept: %v", err)
	}
	content := &tombstone.Tombstone{AsOf: 700, Details: []tombstone.Run{{First: 0, Count: 600}}}
	if err := walk(700, below(512), content).Check(); !errors.Is(err, tombstone.ErrPruned) {
		t.Errorf("where only content may go: %v", err)
	}
	if err := walk(700, below(512), &tombstone.Tombstone{AsOf: 700, Entries: 512, Chain: [32]byte{8}}).Check(); err == nil || !strings.Contains(err.Error(), "entry 511") {
		t.Errorf("another value of the chain: %v", err)
	}
}

func TestATombstoneThatMakesNoSenseNamesNothing(t *testing.T) {
	for member, says := range map[string]string{
		``: "ledger", `{}`: "missing", `{"erased":null}`: "missing", `{"erased":{}}`: "asOf",
		`{"erased":{"asOf":-1}}`:                                                                       "asOf",
		`{"erased":{"asOf":101}}`:                                                                      "asOf",
		`{"erased":{"asOf":9,"details":[[3,0]]}}`:                                                      "details[0]",
		`{"erased":{"asOf":9,"details":[[-1,2]]}}`:                                                     "details[0]",
		`{"erased":{"asOf":9,"details":[[3,7]]}}`:                                                      "details[0]",
		`{"erased":{"asOf":9,"details":[[3,2],[4,1]]}}`:                                                "details[1]",
		`{"erased":{"asOf":9,"details":[[3,9223372036854775807]]}}`:                                    "details[0]",
		`{"erased":{"asOf":9,"details":[[0,1]],"more":9}}`:                                             "unknown field",
		`{"erased":{"asOf":9,"entries":{"end":9,"chain":""}}}`:                                         "entries.end",
		`{"erased":{"asOf":99,"entries":{"end":256,"chain":"` + zeros + `"}}}`:                         "entries.end",
		`{"erased":{"asOf":99,"entries":{"end":-256,"chain":"` + zeros + `"}}}`:                        "entries.end",
		`{"erased":{"asOf":99,"entries":{"end":256,"kept":-1,"chain":"` + zeros + `"}}}`:               "entries",
		`{"erased":{"asOf":99,"entries":{"end":0,"chain":"` + zeros + `"}}}`:                           "entries.end",
		`{"erased":{"asOf":1e9,"details":[` + strings.Repeat(`[0,1],`, tombstone.MaxRuns) + `[0,1]]}}`: "",
	} {
		_, err := tombstone.Parse(100, []byte(member))
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%.60s: %v", member, err)
		}
		var x tombstone.Erased
		if x.Follow(100, &event.Event{EventType: tombstone.TypeRetentionRun, Ledger: []byte(member)}) != nil || x.Names(3) {
			t.Errorf("%.60s names something", member)
		}
	}
	var x tombstone.Erased
	if x.Follow(100, &event.Event{EventType: "RemediationExecuted", Ledger: stone(t, 9, tombstone.Run{First: 3, Count: 1}).Ledger}) != nil || x.Names(3) {
		t.Error("an event of another type names something")
	}
}

func TestAHoldBetweenThePlanAndTheTombstoneVoidsIt(t *testing.T) {
	for _, tt := range []struct {
		hold  int64
		kind  string
		names bool
	}{
		{10, tombstone.TypeHoldPlaced, true}, {19, tombstone.TypeHoldChanged, true}, {20, tombstone.TypeHoldPlaced, false},
		{24, tombstone.TypeHoldChanged, false}, {24, "LegalHoldReleased", true},
	} {
		var x tombstone.Erased
		x.Follow(tt.hold, &event.Event{EventType: tt.kind})
		got := x.Follow(25, stone(t, 20, tombstone.Run{First: 3, Count: 1}))
		if (got != nil) != tt.names || x.Names(3) != tt.names || x.Names(4) {
			t.Errorf("a %s at %d: it counts: %v", tt.kind, tt.hold, got != nil)
		}
	}
}

func TestATombstoneAcrossWhatCannotBeReadNamesNothing(t *testing.T) {
	var a tombstone.Absence
	a.Entry(3, [32]byte{}, []byte("{}"), true, false)
	a.Entry(7, [32]byte{}, []byte(`{"ledger":{`), false, false) // it may have been a hold
	a.Entry(8, [32]byte{}, entry(t, stone(t, 7, tombstone.Run{First: 3, Count: 1})), false, false)
	a.Seal(9)
	if a.Check() == nil {
		t.Error("a tombstone counts that an entry which cannot be read may have voided")
	}
	a.Entry(9, [32]byte{}, entry(t, stone(t, 8, tombstone.Run{First: 3, Count: 1})), false, false)
	a.Seal(10)
	if err := a.Check(); err != nil {
		t.Errorf("decided behind it: %v", err)
	}
}

func TestSetsMeetWhereTheyHaveAnIndexInCommon(t *testing.T) {
	var a, b, none tombstone.Indexes
	a.Add(tombstone.Run{First: 5, Count: 3})
	a.Add(tombstone.Run{First: 100_000, Count: 1})
	b.Add(tombstone.Run{First: 8, Count: 90_000})
	if a.Meets(&b) || a.Meets(&none) || none.Meets(&a) {
		t.Error("they meet")
	}
	b.Add(tombstone.Run{First: 100_000, Count: 1})
	if !a.Meets(&b) || !b.Meets(&a) || a.Empty() || !none.Empty() {
		t.Error("they do not")
	}
}

func TestIndexesAreThoseThatWereAdded(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var s tombstone.Absence
		want := map[int64]bool{}
		var set tombstone.Indexes
		for range 20 {
			r := tombstone.Run{First: rnd.Int64N(40_000), Count: 1 + rnd.Int64N(300)}
			set.Add(r)
			for i := r.First; i < r.End(); i++ {
				want[i] = true
			}
		}
		for i := range int64(41_000) {
			if set.Has(i) != want[i] {
				t.Fatalf("%d is in the set: %v", i, set.Has(i))
			}
			if want[i] {
				s.Entry(i, [32]byte{}, nil, true, false)
			}
		}
		n := 0
		s.Unnamed(20_000, func(i int64, _ error) bool {
			if !want[i] || i >= 20_000 {
				t.Fatalf("%d is told of", i)
			}
			n++
			return true
		})
		for i := range want {
			if i < 20_000 {
				n--
			}
		}
		if n != 0 || s.Named() != 0 {
			t.Fatalf("%d too many, %d named", n, s.Named())
		}
	}
}

// Whoever makes an export by hand may have it say that its second line is entry
// 2⁵⁰, and that all before were erased.
func TestATombstoneThatNamesMoreThanThereIsTakesNoMemory(t *testing.T) {
	const far = int64(1) << 50
	var a tombstone.Absence
	a.Entry(7, [32]byte{}, nil, true, false)
	a.Entry(far, [32]byte{}, entry(t, stone(t, far, tombstone.Run{First: 2, Count: 3}, tombstone.Run{First: 7, Count: far - 7})), false, false)
	a.Entry(far+1, [32]byte{}, entry(t, stone(t, far, tombstone.Run{First: 0, Count: far})), false, false)
	a.Seal(far + 1)
	if err := a.Check(); err != nil || a.Named() != 1 || a.Kept(10) != 5 {
		t.Errorf("%v, %d named, %d kept", err, a.Named(), a.Kept(10))
	}
	a.Seal(far + 2)
	if err := a.Check(); err != nil || a.Named() != 1 || a.Kept(10) != 9 || a.Kept(far) != far-1 {
		t.Errorf("%v, %d named, %d kept", err, a.Named(), a.Kept(10))
	}
}

func TestContentMayBeGoneWhereASealedTombstoneNamesIt(t *testing.T) {
	var a tombstone.Absence
	a.Entry(3, [32]byte{}, []byte("{}"), true, false)
	a.Entry(4, [32]byte{}, []byte("{}"), true, false)
	a.Entry(5, [32]byte{}, []byte("{}"), false, false)
	a.Entry(6, [32]byte{}, entry(t, stone(t, 6, tombstone.Run{First: 3, Count: 1}, tombstone.Run{First: 5, Count: 1})), false, false)
	a.Entry(7, [32]byte{}, entry(t, stone(t, 6, tombstone.Run{First: 4, Count: 1})), false, false)
	if a.Check() == nil || a.Named() != 0 {
		t.Error("a tombstone counts that is not sealed")
	}
	a.Seal(7)
	if err := a.Check(); err == nil || !strings.Contains(err.Error(), "entry 4") || a.Named() != 1 || a.Kept(10) != 1 || a.Kept(5) != 0 {
		t.Errorf("after one is sealed: %v, %d named, %d kept", err, a.Named(), a.Kept(10))
	}
	a.Seal(8)
	if err := a.Check(); err != nil || a.Named() != 2 {
		t.Errorf("after both are: %v, %d named", err, a.Named())
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"erased":{"asOf":9,"details":[[0,2],[3,1]],"policies":"ab"}}`))
	f.Fuzz(func(t *testing.T, member []byte) {
		got, err := tombstone.Parse(1<<40, member)
		if err != nil {
			return
		}
		text, err := json.Marshal(got.Member())
		if err != nil {
			t.Fatal(err)
		}
		again, err := tombstone.Parse(1<<40, text)
		if err != nil || again.AsOf != got.AsOf || !slices.Equal(again.Details, got.Details) || again.Policies != got.Policies {
			t.Errorf("%s became %s: %v", member, text, err)
		}
	})
}
