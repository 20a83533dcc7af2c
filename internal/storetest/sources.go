package storetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// sources has a store derive counts of sources, from numbers that are missing,
// come late, or twice, and compares them with what its entries say.
func sources(t *testing.T, b *Bed) {
	r := b.Start(t)
	rng := rand.New(rand.NewPCG(1, 2))
	names := []string{"operator-0", "operator-1", "'; DROP TABLE source; --", "\u202eevil\n\t", "a\"b\\", "ümläut ☃"}
	number := 0
	tell := func(s event.Source) *event.Event {
		e := Event(number)
		number++
		e.Source = s
		if rng.IntN(5) == 0 {
			e.EventType = []string{event.TypeHeartbeat, event.TypeStopped}[rng.IntN(2)]
		}
		return e
	}
	for round := range 6 {
		var events []*event.Event
		for range 60 {
			s := event.Source{Name: names[rng.IntN(len(names))], Seq: 1 + rng.Int64N(40)}
			if n := rng.IntN(4); n > 0 {
				s.Epoch = fmt.Sprint("epoch ", n)
			}
			switch rng.IntN(12) {
			case 0:
				s.Seq = 1<<53 - 1 - rng.Int64N(3)
			case 1:
				s.Seq = 0 // counted by nobody
			case 2:
				s = event.Source{}
			}
			events = append(events, tell(s))
		}
		// One source tells all, in a batch and across batches.
		for i := range 10 {
			events = append(events, tell(event.Source{Name: "whole", Epoch: "e", Seq: int64(10*round + i + 1)}))
		}
		r.Append(events...)
		r.Append(events[:5]...) // again, which adds nothing
		if round%2 == 1 {
			checkSources(t, r, append(names, "whole", "unknown", ""))
			r.Stop()
			r = b.Start(t)
		}
	}
	checkSources(t, r, append(names, "whole", "unknown", ""))
	r.Check(b)
}

// checkSources holds what the store tells of sources against its entries.
func checkSources(t *testing.T, r *Running, names []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	size := r.Ledger.State().Size()
	if err := r.Store.Derived(ctx, size); err != nil {
		t.Fatal(err)
	}
	type model struct {
		finding.Count
		firsts map[int64]int64 // index by number
	}
	counts := map[event.Source]*model{}
	earlier := map[string]int64{}
	err := r.Store.Records(ctx, search.Range{End: size}, func(rec *trail.Record) error {
		e, err := rec.Event()
		if err != nil || e.Source.Name == "" || e.Source.Seq == 0 {
			return err
		}
		of := event.Source{Name: e.Source.Name, Epoch: e.Source.Epoch}
		m := counts[of]
		if m == nil {
			m = &model{finding.Count{First: rec.Index, Sign: -1, Earlier: earlier[of.Name]}, map[int64]int64{}}
			earlier[of.Name]++
			if counts[of] = m; of.Epoch != "" {
				m.firsts[0] = -1
			}
		}
		if _, ok := m.firsts[e.Source.Seq]; !ok {
			m.firsts[e.Source.Seq] = rec.Index
			m.Distinct++
		}
		m.Entries++
		m.Last = rec.Index
		if finding.IsSign(e.EventType) {
			m.Sign = rec.Index
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var holes, signed, odd []string
		for of, m := range counts {
			if name != "" && of.Name != name {
				continue
			}
			if m.Sign >= 0 {
				signed = append(signed, fmt.Sprint(m.Count))
			}
			if m.Earlier > 0 || m.Entries > m.Distinct {
				odd = append(odd, fmt.Sprint(m.Count))
			}
			numbers := slices.Sorted(maps.Keys(m.firsts))
			for i, n := range numbers[1:] {
				if n > numbers[i]+1 {
					holes = append(holes, fmt.Sprint(finding.Hole{From: numbers[i] + 1, To: n - 1, Before: m.firsts[numbers[i]], After: m.firsts[n]}))
				}
			}
		}
		var gotHoles, gotSigned, gotOdd []string
		err := r.Store.Holes(ctx, name, func(h finding.Hole) error {
			gotHoles = append(gotHoles, fmt.Sprint(h))
			return nil
		})
		if err == nil {
			err = r.Store.Signed(ctx, name, func(c finding.Count) error {
				gotSigned = append(gotSigned, fmt.Sprint(c))
				return nil
			})
		}
		if err == nil {
			err = r.Store.Odd(ctx, name, func(c finding.Count) error {
				gotOdd = append(gotOdd, fmt.Sprint(c))
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		for what, lists := range map[string][2][]string{"holes": {gotHoles, holes}, "counts with a sign": {gotSigned, signed}, "odd counts": {gotOdd, odd}} {
			slices.Sort(lists[0])
			slices.Sort(lists[1])
			if !slices.Equal(lists[0], lists[1]) {
				t.Fatalf("%s of %q: the store tells %d, the entries %d:\n%v\n%v", what, name, len(lists[0]), len(lists[1]), lists[0], lists[1])
			}
		}
	}
}
