package observer

import (
	"encoding/json"
	"errors"
	"fmt"
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
	// Gone is when it was seen that the resource is deleted.
	Gone time.Time `json:",omitzero"`
}

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
	// Policies are those that all states were shown to.
	Policies []string
}

// A store keeps the states of one kind of resources on disk, a file each, and the
// position. A state that a power cut took back is older than the position, which is
// durable: then changes in between are seen as one.
type store struct{ dir string }

// openStore opens the store of a kind of resources below dir.
func openStore(dir string, kind capture.Resource) (*store, error) {
	s := &store{filepath.Join(dir, strings.Join([]string{kind.Resource, kind.Version, kind.Group}, "."))}
	return s, os.MkdirAll(s.dir, 0o700)
}

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

func fileOf(uid string) string { return "uid-" + filepath.Base(uid) + ".json" }

// get returns the state of a resource; nil if there is none.
func (s *store) get(uid string) (*state, error) {
	st := new(state)
	ok, err := s.read(fileOf(uid), st)
	if !ok {
		return nil, err
	}
	return st, err
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

// put sets a state. Its file is whole or as it was, but for a power cut.
func (s *store) put(st *state) error {
	text, err := json.Marshal(st)
	if err != nil {
		return fmt.Errorf("keep the state of %s: %w", st.UID, err)
	}
	name := filepath.Join(s.dir, fileOf(st.UID))
	if err := os.WriteFile(name+".tmp", text, 0o600); err != nil {
		return err
	}
	return os.Rename(name+".tmp", name)
}

// forget deletes a state.
func (s *store) forget(uid string) error {
	err := os.Remove(filepath.Join(s.dir, fileOf(uid)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// uids returns the resources that there are states of.
func (s *store) uids() ([]string, error) {
	files, err := os.ReadDir(s.dir)
	var uids []string
	for _, f := range files {
		if uid, ok := strings.CutPrefix(f.Name(), "uid-"); ok {
			if uid, ok = strings.CutSuffix(uid, ".json"); ok {
				uids = append(uids, uid)
			}
		}
	}
	return uids, err
}
