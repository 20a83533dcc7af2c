package recorder

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// again is how long the same words, of what is no object's, are one telling.
const again = 10 * time.Minute

// A told remembers when something was told first, for as long as the same words
// mean it.
type told struct {
	path string // empty where it is kept in memory only
	now  func() time.Time

	mu    sync.Mutex
	times map[string]time.Time
}

func openTold(dir string, now func() time.Time) (*told, error) {
	t := &told{now: now, times: map[string]time.Time{}}
	if dir == "" {
		return t, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	t.path = filepath.Join(dir, "told.json")
	text, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &t.times)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w (delete it, and what was told in the last ten minutes may be told twice)", t.path, err)
	}
	return t, nil
}

// at returns when something was told first. What it returns is durable.
func (t *told) at(what string) (time.Time, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now().UTC()
	fresh := func(at time.Time) bool { d := now.Sub(at); return d.Abs() < again }
	if at, ok := t.times[what]; ok && fresh(at) {
		return at, nil
	}
	for other, at := range t.times {
		if !fresh(at) {
			delete(t.times, other)
		}
	}
	t.times[what] = now
	if err := t.write(); err != nil {
		delete(t.times, what)
		return time.Time{}, err
	}
	return now, nil
}

// write replaces the file. The caller holds t.mu.
func (t *told) write() error {
	if t.path == "" {
		return nil
	}
	text, err := json.Marshal(t.times)
	if err != nil {
		return err
	}
	next, err := os.OpenFile(t.path+".next", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = next.Write(text)
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	if err := os.Rename(next.Name(), t.path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(t.path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
