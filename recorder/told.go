package recorder

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
)

const (
	// again is how long the same words are one telling where they are no object's.
	again = 10 * time.Minute
	// keep is for how long what was told is kept, and inMemory how much of it is
	// where there is no directory.
	keep, inMemory = 30 * 24 * time.Hour, 10_000
)

// A told keeps what was told first, so that it is told again in the same words.
type told struct {
	dir string // empty where it is kept in memory only
	now func() time.Time

	mu     sync.Mutex
	memory map[string][]byte
	writes int // since it was last pruned
}

// A memory is what is kept of a telling.
type memory struct {
	At    time.Time // when it was told last
	Event json.RawMessage
}

func openTold(dir string, now func() time.Time) (*told, error) {
	t := &told{dir: dir, now: now, memory: map[string][]byte{}}
	if dir == "" {
		return t, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return t, t.prune()
}

// ours are the names of files that it makes.
var ours = regexp.MustCompile(`^[0-9a-f]{32}\.json(\.next)?$`)

// prune deletes what was told long ago.
func (t *told) prune() error {
	files, err := os.ReadDir(t.dir)
	for _, f := range files {
		if !ours.MatchString(f.Name()) {
			continue
		}
		info, failed := f.Info()
		if failed == nil && t.now().Sub(info.ModTime()) > keep {
			failed = os.Remove(filepath.Join(t.dir, f.Name()))
		}
		if !errors.Is(failed, fs.ErrNotExist) {
			err = errors.Join(err, failed)
		}
	}
	return err
}

// first returns the event of a telling as it was told first. It is durable, and so
// it stays. A new one gets its time, if it has none, its fact and its id.
func (t *told) first(e *event.Event, as telling) (*event.Event, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now().UTC()
	about := cmp.Or(e.Resource.UID, e.Resource.Kind+" "+e.Resource.Namespace+"/"+e.Resource.Name)
	fact := strings.Join([]string{about, e.EventType, as.which}, "/")
	key := e.Cluster + "\x00" + fact
	id := key
	switch {
	case as.once != "":
		key = e.Cluster + "\x00" + strings.Join([]string{about, e.EventType, as.once}, "/") + "\x00once"
	case as.state != "":
		key = e.Cluster + "\x00" + as.state
	case as.object == nil:
		key += "\x00" + string(e.Details)
	}
	sum := sha256.Sum256([]byte(key))
	file := hex.EncodeToString(sum[:16]) + ".json"
	m, err := t.read(file)
	if err != nil {
		return nil, err
	}
	if m != nil {
		had, err := event.Parse(m.Event)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		age := now.Sub(m.At)
		if had.EventType == e.EventType && (as.window == 0 || age.Abs() < as.window || as.once != "" && had.Fact == fact) {
			if as.slides {
				m.At = now
				err = t.write(file, m)
			}
			return had, err
		}
	}
	if e.Timestamp.IsZero() {
		e.Timestamp = now
	}
	if as.once == "" && (as.window != 0 || as.state != "") { // which time it is, nobody else knows
		fact += "/" + strconv.FormatInt(e.Timestamp.UnixNano(), 10)
	}
	if as.object != nil {
		e.Fact = fact
	}
	if as.once == "" {
		id = key
	}
	e.ID = event.DeriveID("recorder", id, fact)
	whole := e.Clone()
	whole.Complete(now)
	if err := whole.Validate(now); err != nil { // and what is refused is not kept
		return nil, err
	}
	return e, t.write(file, &memory{At: now, Event: e.AppendJSON(nil)})
}

func (t *told) read(file string) (*memory, error) {
	text, ok := t.memory[file]
	if t.dir != "" {
		var err error
		text, err = os.ReadFile(filepath.Join(t.dir, file))
		if ok = err == nil; !ok && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if !ok {
		return nil, nil
	}
	var m memory
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("%s: %w (delete it, and what it has may be told twice)", filepath.Join(t.dir, file), err)
	}
	return &m, nil
}

// write replaces a file.
func (t *told) write(file string, m *memory) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if t.dir == "" {
		for other := range t.memory {
			if len(t.memory) < inMemory {
				break
			}
			delete(t.memory, other)
		}
		t.memory[file] = text
		return nil
	}
	if t.writes++; t.writes%10_000 == 0 {
		if err := t.prune(); err != nil {
			return err
		}
	}
	path := filepath.Join(t.dir, file)
	next, err := os.OpenFile(path+".next", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = next.Write(text)
	if err = errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	if err := os.Rename(next.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(t.dir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
