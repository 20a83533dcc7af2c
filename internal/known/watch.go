package known

import (
	"os"
	"path/filepath"

	"github.com/graven-audit/graven/trail"
)

// A Watch holds checkpoints that come with answers against those that were
// remembered before they were asked for. It takes no request of its own.
type Watch struct {
	known map[string]*trail.Checkpoint // by origin
	err   error
}

// NewWatch recalls what was seen of all ledgers, as far as it can be read.
func NewWatch() *Watch {
	w := &Watch{known: map[string]*trail.Checkpoint{}}
	m, err := Open()
	if err != nil {
		return w
	}
	paths, _ := filepath.Glob(filepath.Join(m.dir, "*.checkpoint"))
	for _, path := range paths {
		data, _ := os.ReadFile(path)
		if c, err := trail.ReadCheckpoint(data); err == nil {
			w.known[c.Origin] = c
		}
	}
	return w
}

// See takes a checkpoint, a signed note. What is none counts for nothing.
func (w *Watch) See(note string) {
	now, err := trail.ReadCheckpoint([]byte(note))
	if err == nil && w.err == nil && w.known[now.Origin] != nil {
		w.err = turnedBack(w.known[now.Origin], now)
	}
}

// Err is [ErrTurnedBack] if a checkpoint was seen that shows it.
func (w *Watch) Err() error { return w.err }
