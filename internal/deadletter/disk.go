package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/spool"
)

const (
	// originFile names the ledger that a directory keeps events for.
	originFile = "origin"
	// QuarantineFile holds what the ledger refused for good, and what was found
	// to be damaged, a JSON object a line.
	QuarantineFile = "quarantine.ndjson"
)

// A Disk is a queue on a server's own disk, with its quarantine. The directory
// must outlive the server.
type Disk struct {
	spool *spool.Spool
	now   func() time.Time

	mu   sync.Mutex // guards file
	file *os.File
}

var _ Queue = (*Disk)(nil)

// OpenDisk opens the queue in dir, which is made if it is not there, of the
// events for the ledger called origin. It has up to maxBytes; 0 means 1 GiB.
func OpenDisk(dir, origin string, maxBytes int64, onError func(error)) (*Disk, error) {
	d := &Disk{now: time.Now}
	if err := d.open(dir, origin, maxBytes, onError); err != nil {
		return nil, errors.Join(fmt.Errorf("open the spool in %s: %w", dir, err), d.Close())
	}
	return d, nil
}

func (d *Disk) open(dir, origin string, maxBytes int64, onError func(error)) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, originFile)
	is, err := os.ReadFile(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := seglog.WriteFile(seglog.OS{}, path, []byte(origin+"\n")); err != nil {
			return err
		}
	case err != nil:
		return err
	case strings.TrimSpace(string(is)) != origin:
		return fmt.Errorf("it keeps events for the ledger %.200q, and this one is %s", strings.TrimSpace(string(is)), origin)
	}
	if d.file, err = os.OpenFile(filepath.Join(dir, QuarantineFile), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600); err != nil {
		return err
	}
	if err := d.endLine(); err != nil {
		return err
	}
	d.spool, err = spool.Open(dir, spool.Options{MaxBytes: maxBytes, OnError: onError, OnDamage: func(damage spool.Damage) error {
		return d.add(line{Reason: "damaged: " + damage.String(), Bytes: damage.Data})
	}})
	return err
}

// endLine ends a last line that was torn by a crash.
func (d *Disk) endLine() error {
	info, err := d.file.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	last := make([]byte, 1)
	if _, err := d.file.ReadAt(last, info.Size()-1); err != nil || last[0] == '\n' {
		return err
	}
	_, err = d.file.Write([]byte("\n"))
	return err
}

// A line is one of the quarantine's.
type line struct {
	At        time.Time       `json:"at"`
	Reason    string          `json:"reason"`
	Principal string          `json:"principal,omitempty"`
	Via       string          `json:"via,omitempty"`
	Item      json.RawMessage `json:"item,omitempty"`  // as it was kept, or
	Bytes     []byte          `json:"bytes,omitempty"` // where that is no JSON
}

// Quarantine keeps an event that the ledger refused for good.
func (d *Disk) Quarantine(r Refused) error {
	l := line{Reason: r.Reason, Principal: r.By.Principal, Via: r.By.Via}
	if json.Valid(r.Event) {
		l.Item = r.Event
	} else {
		l.Bytes = r.Event
	}
	return d.add(l)
}

// add makes a line durable.
func (d *Disk) add(l line) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.At = d.now().UTC()
	data, err := json.Marshal(l)
	if err != nil {
		return err
	}
	if bytes.IndexByte(data, '\n') >= 0 {
		panic("internal error: a line has several")
	}
	if _, err := d.file.Write(append(data, '\n')); err != nil {
		return errors.Join(err, d.endLine())
	}
	return d.file.Sync()
}

// Put implements [Queue].
func (d *Disk) Put(ctx context.Context, items ...[]byte) error {
	_, err := d.spool.Put(ctx, true, items...)
	return err
}

// Next implements [Queue].
func (d *Disk) Next(ctx context.Context, maxItems, maxBytes int) ([]Item, error) {
	list, err := d.spool.Next(ctx, maxItems, maxBytes)
	items := make([]Item, len(list))
	for i, it := range list {
		items[i] = Item{strconv.FormatUint(it.Number, 10), it.Data}
	}
	return items, err
}

// Done implements [Queue].
func (d *Disk) Done(_ context.Context, items []Item) error {
	last, err := strconv.ParseUint(items[len(items)-1].ID, 10, 64)
	if err != nil {
		return err
	}
	return d.spool.Done(last + 1)
}

// Len implements [Queue].
func (d *Disk) Len() int64 { return d.spool.Stats().Items }

// Close closes the queue.
func (d *Disk) Close() error {
	var errs []error
	if d.spool != nil {
		errs = append(errs, d.spool.Close())
	}
	if d.file != nil {
		errs = append(errs, d.file.Close())
	}
	return errors.Join(errs...)
}
