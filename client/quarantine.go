package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/seglog"
)

// quarantineFile holds what will never be delivered, a JSON object a line.
const quarantineFile = "quarantine.ndjson"

// A Quarantined is an event that the server refused for good, or items of the
// spool that were damaged: what will not be delivered unless somebody sees to it.
type Quarantined struct {
	At time.Time `json:"at"`
	// Epoch and Number say which it is by its source's count, or which the first
	// is of Count. Count is 0 for bytes that are of no event.
	Epoch  string `json:"epoch,omitempty"`
	Number uint64 `json:"number"`
	Count  uint64 `json:"count"`
	Reason string `json:"reason,omitempty"`
	// Status and Errors are the server's answer.
	Status int     `json:"status,omitempty"`
	Errors []Fault `json:"errors,omitempty"`
	// Event is what was refused. Bytes, in base64, is what is no event.
	Event json.RawMessage `json:"event,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
}

// Key names it, as in "epoch:number".
func (q *Quarantined) Key() string {
	if q.Count == 0 {
		return fmt.Sprintf("%s:%d+", q.Epoch, q.Number) // what stood before a number
	}
	return q.span().String()
}

func (q *Quarantined) span() event.Span {
	return event.Span{Epoch: q.Epoch, From: int64(q.Number), To: int64(q.Number + q.Count - 1)}
}

// hold keeps an event that was refused.
func (q *Quarantined) hold(data []byte) {
	if json.Valid(data) {
		q.Event = data
	} else {
		q.Bytes = data
	}
}

// A quarantined is what stands in a line of the quarantine file: what came into
// quarantine or, of what is in it, that somebody decided to have it out, and that
// it is.
type quarantined struct {
	Quarantined
	Decision string `json:"decision,omitempty"` // a type of event: retried or dropped
	By       string `json:"by,omitempty"`
	Because  string `json:"because,omitempty"`
	Done     string `json:"done,omitempty"` // the decision that was carried out
}

// A quarantine is the file.
type quarantine struct {
	path string

	deciding sync.Mutex // one decision at a time

	mu     sync.Mutex
	file   *os.File // nil until there is something in it
	closed bool
}

func openQuarantine(path string) (*quarantine, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	return &quarantine{path: path}, nil
}

// add adds a line, durably, or nothing.
func (q *quarantine) add(what quarantined) error {
	line, err := json.Marshal(what)
	if err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return ErrClosed
	}
	if err := q.open(); err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	info, err := q.file.Stat()
	if err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	_, err = q.file.Write(append(line, '\n'))
	if err == nil {
		err = q.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("quarantine: %w", errors.Join(err, q.file.Truncate(info.Size())))
	}
	return nil
}

// open opens the file, if it is not, such that it does not go with the power. A
// line that a power cut has torn is ended, so that the next begins at its own.
func (q *quarantine) open() error {
	if q.file != nil {
		return nil
	}
	f, err := os.OpenFile(q.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	var last [1]byte
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size > 0 {
		_, err = f.ReadAt(last[:], size-1)
	}
	if err == nil && size > 0 && last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
	}
	if err == nil {
		err = seglog.OS{}.SyncDir(filepath.Dir(q.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	q.file = f
	return nil
}

func (q *quarantine) close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.file == nil {
		return nil
	}
	err := q.file.Close()
	q.file = nil
	return err
}
