package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/trail"
)

// tallies are what entries say of a part of the sources.
type tallies struct {
	part, parts uint64
	byID        map[finding.Key]*tally
	counts      map[finding.Key]int64 // of a name
	held, limit int
	full        bool // they take too much memory
	illegible   bool // an entry could not be read
}

func newTallies(part, parts uint64, limit int) *tallies {
	return &tallies{part: part, parts: parts, limit: limit, byID: map[finding.Key]*tally{}, counts: map[finding.Key]int64{}}
}

// has reports whether a source belongs to the part.
func (a *tallies) has(name []byte) bool {
	return len(name) == len(finding.Key{}) && binary.BigEndian.Uint64(name)%a.parts == a.part
}

func (a *tallies) add(r *Row) {
	if r.by == nil || a.full || !a.has(r.by.name[:]) {
		return
	}
	t := a.byID[r.by.id]
	if t == nil {
		t = newTally(r)
		t.Earlier = a.counts[t.name]
		a.counts[t.name]++
		if a.byID[r.by.id] = t; t.epoch {
			t.numbers.AddRun(finding.Beginning)
		}
		a.held++
	}
	a.held -= t.numbers.Held()
	t.add(r)
	a.held += t.numbers.Held()
	a.full = a.held > a.limit
}

// sources names the counts of sources that the index has otherwise. first is
// the first part of them.
func (c *Check) sources(ctx context.Context, tx *sql.Tx, size int64, first *tallies) error {
	for a := first; ; {
		switch {
		case a.illegible:
			c.unproven("what the index says of the sources of events was not checked: an entry cannot be read")
			return nil
		case a.full:
			c.unproven("what the index says of the sources of events was not checked: their numbers take more memory than there is for it")
			return nil
		}
		if err := c.part(ctx, tx, a); err != nil {
			return err
		}
		if a.part+1 == a.parts {
			break
		}
		a = newTallies(a.part+1, a.parts, a.limit)
		var deriver Deriver
		err := c.Log.Scan(ctx, size, func(r *trail.Record) error {
			e, _, err := event.ParseEntry(r.Entry)
			if err != nil {
				return err // it could be read the first time
			}
			row := deriver.Row(r.Index, e)
			a.add(&row)
			return nil
		})
		if err != nil {
			return err
		}
	}
	var stray int64
	err := tx.QueryRowContext(ctx, "SELECT count(*) FROM run WHERE source NOT IN (SELECT id FROM source)").Scan(&stray)
	if err == nil && stray > 0 {
		c.found(-1, "the index has %d runs of numbers of no source", stray)
	}
	return err
}

// part compares a part of the sources with what the entries say.
func (c *Check) part(ctx context.Context, tx *sql.Tx, a *tallies) error {
	runs, err := tx.PrepareContext(ctx, "SELECT low, high, low_idx, high_idx FROM run WHERE source = ? ORDER BY low")
	if err != nil {
		return err
	}
	defer runs.Close()
	rows, err := tx.QueryContext(ctx, "SELECT id, name, first, last, entries, numbers, runs, sign, earlier FROM source")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var id, name []byte
		var have finding.Count
		var runCount int64
		if err := rows.Scan(&id, &name, &have.First, &have.Last, &have.Entries, &have.Distinct, &runCount, &have.Sign, &have.Earlier); err != nil {
			return err
		}
		var key finding.Key
		copy(key[:], id)
		want := a.byID[key]
		if want == nil || len(id) != len(key) {
			if a.has(name) || len(name) != len(key) {
				c.found(-1, "the index has a source, of entry %d, that no entry names", have.First)
			}
			continue
		}
		delete(a.byID, key)
		list := want.numbers.Runs()
		want.Entries = want.numbers.Count
		for _, r := range list {
			want.Distinct += r.High - max(r.Low, 1) + 1
		}
		if have != want.Count || string(name) != string(want.name[:]) || runCount != int64(len(list)) {
			c.found(want.First, "the index is wrong about the source of this entry and its numbers")
			continue
		}
		same, err := sameRuns(ctx, runs, key, list)
		if err != nil {
			return err
		}
		if !same {
			c.found(want.First, "the index is wrong about which numbers of this entry's source there are")
		}
	}
	for _, t := range a.byID {
		c.found(t.First, "the index does not know the source of this entry")
	}
	return rows.Err()
}

// sameRuns reports whether the index has exactly these runs of a source.
func sameRuns(ctx context.Context, stmt *sql.Stmt, id finding.Key, want []finding.Run) (bool, error) {
	rows, err := stmt.QueryContext(ctx, id[:])
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var have []finding.Run
	for rows.Next() && len(have) <= len(want) {
		var r finding.Run
		if err := rows.Scan(&r.Low, &r.High, &r.LowIndex, &r.HighIndex); err != nil {
			return false, err
		}
		have = append(have, r)
	}
	return slices.Equal(have, want), errors.Join(rows.Err(), rows.Close())
}
