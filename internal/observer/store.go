package observer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/seglog"
)

// A state is how a resource was seen last, without credentials.
type state struct {
	UID     string
	Version string // its resourceVersion
	Object  object
	At      time.Time // by the resource's own account
	// Snapshot is the digest of the state that the ledger has a snapshot of.
	Snapshot string `json:",omitempty"`
	// Told are the facts that were told because states had lasted.
	Told []string `json:",omitempty"`
	// Recorded is set if a policy has recorded something of the resource.
	Recorded bool `json:",omitempty"`
	// Facts are how often each policy has told each fact of the resource, by digest.
	Facts map[string]int `json:",omitempty"`
	// Gone is when it was seen that the resource is deleted. Without an object, that was
	// told, and is known until the position is behind it.
	Gone time.Time `json:",omitzero"`
	// Since is from when on the state has lasted, by the operator's clock.
	Since time.Time
}

// dead reports whether all of a resource was told.
func (st *state) dead() bool { return st.Object == nil && st.Version != "" }

// An object is decoded JSON, in which whole numbers are int64.
type object map[string]any

// UnmarshalJSON implements json.Unmarshaler.
func (o *object) UnmarshalJSON(text []byte) error {
	return utiljson.Unmarshal(text, (*map[string]any)(o))
}

// A position is up to where a kind of resources was followed.
type position struct {
	ResourceVersion string
	At              time.Time // when it was there
	// Policies are those that all states were shown to, and Scope which resources they
	// are about.
	Policies []string
	Scope    []concern
}

// A store keeps the states of one kind of resources in a log on disk, of which it
// knows where the newest of each stands, and the position in a file. States that
// changed are in memory until they are flushed, together with the position, which is
// behind them: what is done again after a crash is the same. States that a power cut
// took back are older than the position: then changes in between are seen as one. A
// store is its follower's alone.
type store struct {
	dir string
	// changed are states that are not on disk; nil for those that are to be forgotten.
	changed map[string]*state
	flushed time.Time

	file *os.File
	at   map[string]place // by uid
	end  int64
	live int64 // bytes of the log that are still needed
	// dead are resources of which all was told, and that are forgotten once the position
	// is behind that.
	dead map[string]bool
}

// A place is where a state stands in the log, with its head.
type place struct{ offset, length int64 }

// The log has a head before each state: its length and CRC-32C, 4 bytes each, the
// lowest first. A state without an object, that did not go, forgets the resource.
const (
	logFile  = "states.log"
	headSize = 8
	maxState = 16 << 20
	// minLog is how large a log is at least before it is written anew without what is
	// not needed, which is once that is more than half of it.
	minLog = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openStore opens the store of a kind of resources below dir.
func openStore(dir string, kind capture.Resource) (*store, error) {
	s := &store{dir: filepath.Join(dir, strings.Join([]string{kind.Resource, kind.Version, kind.Group}, ".")), changed: map[string]*state{}, at: map[string]place{}, dead: map[string]bool{}}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	return s, s.open()
}

// open reads the log. What is torn at its end, or damaged, is not there.
func (s *store) open() error {
	file, err := os.OpenFile(filepath.Join(s.dir, logFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	s.file = file
	in := bufio.NewReaderSize(file, 1<<20)
	var head [headSize]byte
	for {
		if _, err := io.ReadFull(in, head[:]); err != nil {
			break
		}
		length := binary.LittleEndian.Uint32(head[:])
		if length > maxState {
			break
		}
		text := make([]byte, length)
		if _, err := io.ReadFull(in, text); err != nil || crc32.Checksum(text, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
			break
		}
		var st state
		if json.Unmarshal(text, &st) != nil {
			break
		}
		s.stands(&st, headSize+int64(length))
	}
	// What was torn ends the file. Where there is more behind it, states are lost that
	// were durable: where they stand is not known any more.
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if torn := binary.LittleEndian.Uint32(head[:]); info.Size() > s.end+headSize+int64(torn) {
		if err := os.Remove(filepath.Join(s.dir, positionFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return file.Truncate(s.end)
}

// stands says that a state stands at the log's end.
func (s *store) stands(st *state, length int64) {
	s.live -= s.at[st.UID].length
	if st.Object == nil && st.Gone.IsZero() {
		delete(s.at, st.UID)
	} else {
		s.at[st.UID] = place{s.end, length}
		s.live += length
	}
	if st.dead() {
		s.dead[st.UID] = true
	} else {
		delete(s.dead, st.UID)
	}
	s.end += length
}

// close closes the log.
func (s *store) close() error { return s.file.Close() }

const positionFile = "position.json"

// position returns the position; nil if there is none.
func (s *store) position() (*position, error) {
	p := new(position)
	ok, err := s.read(positionFile, p)
	if !ok || p.ResourceVersion == "" {
		return nil, err
	}
	return p, err
}

// move sets the position, durably.
func (s *store) move(p *position) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return seglog.WriteFile(seglog.OS{}, filepath.Join(s.dir, positionFile), text)
}

// get returns the state of a resource; nil if there is none.
func (s *store) get(uid string) (*state, error) {
	if st, ok := s.changed[uid]; ok {
		return st, nil
	}
	at, ok := s.at[uid]
	if !ok {
		return nil, nil
	}
	frame := make([]byte, at.length)
	if _, err := s.file.ReadAt(frame, at.offset); err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", uid, err)
	}
	st := new(state)
	if err := json.Unmarshal(frame[headSize:], st); err != nil {
		return nil, fmt.Errorf("read the state of %s: %w", uid, err)
	}
	return st, nil
}

// read reads a file, and reports whether it is there. One that is damaged is not.
func (s *store) read(name string, v any) (bool, error) {
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return json.Unmarshal(text, v) == nil, nil
}

// put sets a state; nil forgets it.
func (s *store) put(uid string, st *state) { s.changed[uid] = st }

const (
	// flushPause is how long states are in memory only, and maxChanged how many.
	flushPause = time.Second
	maxChanged = 2048
)

// due reports whether it is time to flush.
func (s *store) due(now time.Time) bool {
	return len(s.changed) >= maxChanged || now.Sub(s.flushed) >= flushPause
}

// flush writes all states, and then the position, unless it is nil.
func (s *store) flush(at *position, now time.Time) error {
	if err := s.write(s.changed); err != nil {
		return err
	}
	clear(s.changed)
	s.flushed = now
	if s.end > minLog && s.live < s.end/2 {
		if err := s.compact(); err != nil {
			return err
		}
	}
	if at == nil {
		return nil
	}
	if err := s.move(at); err != nil {
		return err
	}
	for uid := range s.dead {
		s.put(uid, nil)
	}
	return nil
}

// write appends states to the log.
func (s *store) write(states map[string]*state) error {
	var out []byte
	written := make([]*state, 0, len(states))
	lengths := make([]int64, 0, len(states))
	for uid, st := range states {
		if st == nil {
			st = &state{UID: uid}
		}
		was := len(out)
		text, err := json.Marshal(st)
		if err != nil {
			return fmt.Errorf("keep the state of %s: %w", uid, err)
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(text, castagnoli))
		out = append(out, text...)
		written, lengths = append(written, st), append(lengths, int64(len(out)-was))
	}
	if _, err := s.file.WriteAt(out, s.end); err != nil {
		return fmt.Errorf("keep states: %w", err)
	}
	for i, st := range written {
		s.stands(st, lengths[i])
	}
	return nil
}

// compact writes the log anew, of what is needed.
func (s *store) compact() error {
	path := filepath.Join(s.dir, logFile)
	next := &store{dir: s.dir, at: map[string]place{}, dead: map[string]bool{}}
	var err error
	if next.file, err = os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
		return err
	}
	for uid := range s.at {
		st, err := s.get(uid)
		if err == nil {
			err = next.write(map[string]*state{uid: st})
		}
		if err != nil {
			return errors.Join(err, next.close())
		}
	}
	if err := errors.Join(next.file.Sync(), os.Rename(path+".new", path)); err != nil {
		return errors.Join(err, next.close())
	}
	err = s.close()
	s.file, s.at, s.end, s.live, s.dead = next.file, next.at, next.end, next.live, next.dead
	return err
}

// uids returns the resources that there are states of.
func (s *store) uids() []string {
	var uids []string
	for uid := range s.at {
		if _, ok := s.changed[uid]; !ok {
			uids = append(uids, uid)
		}
	}
	for uid, st := range s.changed {
		if st != nil {
			uids = append(uids, uid)
		}
	}
	return uids
}
