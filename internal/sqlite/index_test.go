package sqlite

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/posting"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
)

// TestTheIndexSelectsWhatAFilterMatches holds answers from several blocks and
// two epochs against looking at every event.
func TestTheIndexSelectsWhatAFilterMatches(t *testing.T) {
	ctx := context.Background()
	x, err := Open(filepath.Join(t.TempDir(), "index.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	const first, n = (blocksPerEpoch - 2) * posting.BlockSize, 4*posting.BlockSize + 1000
	base := time.Date(2026, 3, 19, 0, 0, 0, 0, time.UTC)
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	var deriver Deriver
	events := make([]*event.Event, n)
	rows := make([]Row, n)
	for i := range events {
		e := &event.Event{
			ID:            event.DeriveID("index test", fmt.Sprint(i)),
			EventType:     pick("IssueCreated", "IssueCreated", "IssueCreated", "ApprovalGranted", "AuditRead"),
			Timestamp:     base.Add(time.Duration(i)*time.Second + time.Duration(rng.IntN(100_000))*time.Second),
			Actor:         event.Actor{Type: "user", Name: pick("alice", "bob", fmt.Sprint("user-", rng.IntN(1000)))},
			CorrelationID: pick("", fmt.Sprint("inc-", i/10)),
			Severity:      pick("high", "low", "info"),
			Outcome:       "success",
			Resource:      event.Resource{Kind: pick("Issue", "Pod"), Namespace: pick("a", "b", "c"), Name: fmt.Sprint("r-", rng.IntN(500))},
		}
		if i/posting.BlockSize == 2 {
			e.EventType = "IssueCreated" // a block without access events
		}
		events[i], rows[i] = e, deriver.Row(int64(first+i), e)
	}
	x.open, x.size = newOpenBlock(blocksPerEpoch-2), first
	for at := 0; at < n; {
		size := min(1+rng.IntN(3000), n-at)
		if err := x.Commit(ctx, slices.Clone(rows[at:at+size]), int64(first+at+size), trail.Hash{}); err != nil {
			t.Fatal(err)
		}
		at += size
	}
	for range questions {
		var f search.Filter
		set := func(p float64, fn func()) {
			if rng.Float64() < p {
				fn()
			}
		}
		set(0.3, func() { f.Types = []string{pick("IssueCreated", "ApprovalGranted", "AuditRead")} })
		set(0.1, func() { f.Types = []string{"ApprovalGranted", "IssueCreated"} })
		set(0.3, func() { f.Severities = []string{"high", "low"}[:1+rng.IntN(2)] })
		set(0.3, func() { f.Actor = pick("alice", "user-7", "nobody") })
		set(0.2, func() { f.CorrelationID = fmt.Sprint("inc-", rng.IntN(n/10)) })
		set(0.2, func() { f.Namespace = pick("a", "b", "x") })
		set(0.2, func() { f.Resource = fmt.Sprint("r-", rng.IntN(500)) })
		set(0.2, func() { f.Outcomes = []string{"success"} })
		set(0.2, func() { f.Scope = []string{"a", "c"}[:rng.IntN(3)] })
		set(0.3, func() { f.From = base.Add(time.Duration(rng.IntN(n+100_000)) * time.Second) })
		set(0.3, func() { f.To = base.Add(time.Duration(rng.IntN(n+100_000)) * time.Second) })
		set(0.3, func() { f.Access = true })
		r := search.Range{First: int64(first + rng.IntN(n)/3), End: int64(first + n - rng.IntN(n)/3)}
		var want []int64
		for i, e := range events {
			if idx := int64(first + i); idx >= r.First && idx < r.End && f.Match(e) {
				want = append(want, idx)
			}
		}
		oldest := rng.IntN(2) == 0
		if !oldest {
			slices.Reverse(want)
		}
		total, err := x.Count(ctx, &f, r)
		if err != nil || total != int64(len(want)) {
			t.Fatalf("%v in %v: %d, want %d, %v", f.Params(), r, total, len(want), err)
		}
		limit, offset := 1+rng.IntN(2000), rng.IntN(len(want)+2)
		got, err := x.Select(ctx, &f, r, oldest, limit, int64(offset))
		want = want[min(offset, len(want)):]
		if want = want[:min(limit, len(want))]; err != nil || !slices.Equal(got, want) {
			t.Fatalf("%v in %v from %d: %d entries, want %d, %v", f.Params(), r, offset, len(got), len(want), err)
		}
	}
}
