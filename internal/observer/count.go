package observer

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
)

// counts are what happened of late, by key and fact, for thresholds. They are written
// before the position moves.
type counts struct {
	store   *store
	byKey   map[string]map[string]counted
	changed bool
}

// A counted is when something happened, and until when it counts.
type counted struct{ At, Until time.Time }

const countsFile = "counts.json"

func openCounts(s *store) (*counts, error) {
	c := &counts{store: s, byKey: map[string]map[string]counted{}}
	_, err := s.read(countsFile, &c.byKey)
	return c, err
}

// maxCounted bounds what is counted under one key.
const maxCounted = 10_000

// Count implements [capture.Counter].
func (c *counts) Count(key, fact string, at time.Time, within time.Duration) int {
	of := c.byKey[key]
	if of == nil {
		of = map[string]counted{}
		c.byKey[key] = of
	}
	if _, ok := of[fact]; !ok && len(of) < maxCounted {
		of[fact], c.changed = counted{at, at.Add(within)}, true
	}
	n := 0
	for _, other := range of {
		if !other.At.After(at) && other.At.After(at.Add(-within)) {
			n++
		}
	}
	return n
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
