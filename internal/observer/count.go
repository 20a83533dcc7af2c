package observer

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
)

// counts are what happened of late, by key and fact, for thresholds. They are written
// before the position moves.
type counts struct {
	store   *store
	byKey   map[string]map[string]counted
	changed bool
	now     func() time.Time
}

// A counted is when something happened, and until when it counts. Reached is set if the
// threshold was with it.
type counted struct {
	At, Until time.Time
	Reached   bool `json:",omitempty"`
}

const countsFile = "counts.json"

func openCounts(s *store, now func() time.Time) (*counts, error) {
	c := &counts{store: s, byKey: map[string]map[string]counted{}, now: now}
	_, err := s.read(countsFile, &c.byKey)
	return c, err
}

// maxCounted bounds what is counted under one key.
const maxCounted = 10_000

// Reaches implements [capture.Counter]. Things may come in another order than they
// happened in.
func (c *counts) Reaches(key, fact string, at time.Time, within time.Duration, times int) bool {
	of := c.byKey[key]
	if of == nil {
		of = map[string]counted{}
		c.byKey[key] = of
	}
	if now := c.now(); at.After(now) { // by somebody's word
		at = now
	}
	it, ok := of[fact]
	if !ok && len(of) >= maxCounted {
		return false
	}
	if !ok {
		it = counted{At: at, Until: at.Add(within)}
		of[fact], c.changed = it, true
	}
	if it.Reached {
		return true // which was told, perhaps
	}
	all := make([]counted, 0, len(of))
	for _, other := range of {
		all = append(all, other)
	}
	slices.SortFunc(all, func(x, y counted) int { return x.At.Compare(y.At) })
	// The spans of so many within the time that have it in them: one that was reached by
	// another of them is the same.
	for i := 0; i+times <= len(all); i++ {
		span := all[i : i+times]
		if last := span[times-1].At; it.At.Before(span[0].At) || it.At.After(last) || last.Sub(span[0].At) >= within {
			continue
		}
		if !slices.ContainsFunc(all, func(other counted) bool { return other.Reached && other.At.Sub(it.At).Abs() < within }) {
			it.Reached = true
			of[fact], c.changed = it, true
		}
		return it.Reached
	}
	return false
}

// write makes the counts durable, if there are others than before. What counts no
// longer is forgotten.
func (c *counts) write(now time.Time) error {
	if !c.changed {
		return nil
	}
	for key, of := range c.byKey {
		maps.DeleteFunc(of, func(_ string, v counted) bool { return now.After(v.Until) })
		if len(of) == 0 {
			delete(c.byKey, key)
		}
	}
	text, err := json.Marshal(c.byKey)
	if err != nil {
		return err
	}
	if err := seglog.WriteFile(seglog.OS{}, filepath.Join(c.store.dir, countsFile), text); err != nil {
		return err
	}
	c.changed = false
	return nil
}
