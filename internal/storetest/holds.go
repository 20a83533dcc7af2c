package storetest

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
)

// holds has two keepers place, change and release holds, among events and
// restarts, and compares what each knows with what every entry says.
func holds(t *testing.T, b *Bed) {
	who := custody.Caller{By: By}
	r := b.Start(t)
	var ids []string
	for round := range 4 {
		j := ledger.NewJournal(r.Ledger)
		keepers := []*custody.Keeper{custody.New(r.Ledger, j, r.Store, time.Now), custody.New(r.Ledger, j, r.Store, time.Now)}
		for n := range 6 {
			r.AppendMany(60*round+10*n, 10)
			k := keepers[n%2]
			a, err := k.Place(t.Context(), who, &custody.Order{Reason: fmt.Sprint(round, n), Scope: retention.Scope{CorrelationID: fmt.Sprintf("inc-%d", 12*round+n)}})
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, a.ID)
			switch n {
			case 2:
				_, err = keepers[1].Change(t.Context(), who, ids[0], &custody.Order{Reason: "more", Scope: retention.Scope{Actor: "controller-1"}})
			case 4:
				_, err = keepers[0].Release(t.Context(), who, ids[1], &custody.Order{Reason: "settled"})
				ids = append([]string{ids[0]}, ids[2:]...)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, k := range keepers {
			checkHolds(t, r, k)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		r.Stop()
		r = b.Start(t)
	}
	j := ledger.NewJournal(r.Ledger)
	defer j.Close()
	checkHolds(t, r, custody.New(r.Ledger, j, r.Store, time.Now))
	r.Check(b)
}

// checkHolds holds a keeper's book against one that was told of every entry.
func checkHolds(t *testing.T, r *Running, k *custody.Keeper) {
	t.Helper()
	size := r.Size()
	got, err := k.Book(t.Context(), size)
	if err != nil {
		t.Fatal(err)
	}
	want := retention.NewBook()
	var all []retention.Subject
	for index := range size {
		h, err := r.Finder.Get(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		if err := want.Follow(index, h.Event); err != nil {
			t.Fatal(err)
		}
		all = append(all, retention.Subject{Index: index, Event: h.Event})
	}
	if len(got.Holds()) != len(want.Holds()) {
		t.Errorf("%d holds, want %d", len(got.Holds()), len(want.Holds()))
	}
	for i := range all {
		for _, before := range []int64{math.MaxInt64, size / 2} {
			x, y := got.Held(&all[i], before), want.Held(&all[i], before)
			same := len(x) == len(y)
			for n := range x {
				same = same && x[n].ID == y[n].ID
			}
			if !same {
				t.Errorf("entry %d is held by %d before %d, want %d", i, len(x), before, len(y))
			}
		}
	}
}
