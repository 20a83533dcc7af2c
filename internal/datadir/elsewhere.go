package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
)

// ElsewhereFile marks a directory whose ledger goes on in another place.
const ElsewhereFile = "elsewhere"

// An Elsewhere says that a ledger goes on in another place than this, where
// nothing may be recorded therefore: two that go on are a fork.
type Elsewhere struct {
	// Where is that other place: a directory, or the address of a database.
	Where string `json:"where"`
	// Moved is set where the ledger was moved there from here. Otherwise this is
	// a copy, finished or not.
	Moved bool `json:"moved"`
}

// Error says why nothing may be recorded.
func (e *Elsewhere) Error() string {
	if e.Moved {
		return fmt.Sprintf("its ledger was moved to %s and goes on there; 'graven copy --move' brings it back", e.Where)
	}
	return fmt.Sprintf("it is a copy of the ledger in %s, which goes on there; 'graven copy --move' has it go on here instead", e.Where)
}

// Encode returns what [ParseElsewhere] reads. Nil is nothing.
func (e *Elsewhere) Encode() []byte {
	if e == nil {
		return nil
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // it is made of a text and a bool
	}
	return append(text, '\n')
}

// ParseElsewhere reads a mark. It returns nil where there is none.
func ParseElsewhere(text []byte) (*Elsewhere, error) {
	if len(text) == 0 {
		return nil, nil
	}
	var e Elsewhere
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return nil, fmt.Errorf("the mark of a ledger that goes on elsewhere: %w", err)
	}
	if e.Where == "" || d.More() {
		return nil, errors.New("the mark of a ledger that goes on elsewhere does not say where")
	}
	return &e, nil
}

// ReadElsewhere reads the mark of a directory. It returns nil where there is
// none.
func ReadElsewhere(dir string) (*Elsewhere, error) {
	path := filepath.Join(dir, ElsewhereFile)
	text, err := readUpTo(path, maxSmall)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(text) == 0 {
		return nil, fmt.Errorf("%s is empty, and should say where the ledger goes on", path)
	}
	e, err := ParseElsewhere(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

// CheckHere refuses a directory whose ledger goes on elsewhere.
func CheckHere(dir string) error {
	e, err := ReadElsewhere(dir)
	if err != nil {
		return err
	}
	if e != nil {
		return fmt.Errorf("%s: %w", dir, e)
	}
	return nil
}
