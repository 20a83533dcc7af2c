package deadletter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/graven-audit/graven/internal/quarantine"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/spool"
)

const (
	// QuarantineFile holds what the ledger refused for good, and what was found
	// to be damaged, a JSON object a line.
	QuarantineFile = "refused.ndjson"
	// lookEvery is how often it is looked for decisions that others have noted.
	lookEvery = time.Second
)

// A Disk is a queue on a server's own disk, with its quarantine. The directory
// must outlive the server.
type Disk struct {
	spool   *spool.Spool
	refused *quarantine.File
	onError func(error)

	quit chan struct{}
	done sync.WaitGroup
}

var _ Queue = (*Disk)(nil)

// OpenDisk opens the queue in dir, which is made if it is not there, of the
// events for the ledger called origin. It has up to maxBytes; 0 means 1 GiB.
// What people decide of its quarantine meanwhile is carried out.
func OpenDisk(dir, origin string, maxBytes int64, onError func(error)) (*Disk, error) {
	d, err := openDisk(dir, origin, maxBytes, onError)
	if err == nil {
		d.done.Go(d.follow)
	}
	return d, err
}

func openDisk(dir, origin string, maxBytes int64, onError func(error)) (*Disk, error) {
	d := &Disk{onError: onError, quit: make(chan struct{})}
	if err := d.open(dir, origin, maxBytes); err != nil {
		return nil, errors.Join(fmt.Errorf("open the spool in %s: %w", dir, err), d.Close())
	}
	return d, nil
}

func (d *Disk) open(dir, origin string, maxBytes int64) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, spool.OriginFile)
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
	if d.refused, err = quarantine.Open(filepath.Join(dir, QuarantineFile), quarantine.Options{Shared: true}); err != nil {
		return err
	}
	d.spool, err = spool.Open(dir, spool.Options{MaxBytes: maxBytes, OnError: d.onError, OnDamage: func(damage spool.Damage) error {
		return d.refused.Add(quarantine.Held{At: time.Now().UTC(), Epoch: damage.Epoch, Number: damage.First, Count: damage.End - damage.First,
			Reason: "damaged: " + damage.String(), Bytes: damage.Data})
	}})
	if err != nil {
		return err
	}
	if _, err = d.refused.Finish(d.way(), spool.ErrFull); err != nil && d.onError != nil {
		d.onError(undone(err)) // it keeps nobody from recording
		return nil
	}
	return err
}

func undone(err error) error {
	return fmt.Errorf("what was decided of the quarantine cannot be carried out: %w", err)
}

// way is how decisions are carried out.
func (d *Disk) way() quarantine.Way { return quarantine.Way{Items: Decided, Put: d.Put} }

// follow carries out what is decided, until the disk is closed.
func (d *Disk) follow() {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var seen int64 // what others had written, when nothing was left
	failing := false
	for {
		select {
		case <-d.quit:
			return
		case <-tick.C:
		}
		others, err := d.refused.Others()
		left := true
		if err == nil && others != seen {
			left, err = d.refused.Finish(d.way(), spool.ErrFull)
		}
		if err != nil && !failing && d.onError != nil {
			d.onError(undone(err))
		}
		if failing = err != nil; !failing && !left {
			seen = others
		}
	}
}

// Quarantine keeps an event that the ledger refused for good.
func (d *Disk) Quarantine(r Refused) error {
	number, err := strconv.ParseUint(r.Item.ID, 10, 64)
	if err != nil {
		return err
	}
	h := Held(r)
	h.At, h.Epoch, h.Number, h.Count = time.Now().UTC(), d.spool.Epoch(), number, 1
	return d.refused.Add(h)
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
	close(d.quit)
	d.done.Wait()
	var errs []error
	if d.spool != nil {
		errs = append(errs, d.spool.Close())
	}
	if d.refused != nil {
		errs = append(errs, d.refused.Close())
	}
	return errors.Join(errs...)
}

// IsDisk reports whether a directory is that of a server's queue.
func IsDisk(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, spool.OriginFile))
	return err == nil
}

// A DiskQuarantine is the quarantine of a server's queue on disk.
type DiskQuarantine struct {
	dir  string
	own  *Disk            // where no server has the queue open
	file *quarantine.File // where one has
}

// ReadDisk returns what is in the quarantine of a server's queue in dir, and how
// many lines of its file cannot be read. It disturbs no server that runs.
func ReadDisk(dir string) ([]quarantine.Held, int, error) {
	return quarantine.Read(filepath.Join(dir, QuarantineFile))
}

// OpenDiskQuarantine opens the quarantine of a server's queue in dir. A server may
// have that open, and does what is decided.
func OpenDiskQuarantine(dir string) (*DiskQuarantine, error) {
	origin, err := os.ReadFile(filepath.Join(dir, spool.OriginFile))
	if err != nil {
		return nil, err // a queue is not made where there is none
	}
	q := &DiskQuarantine{dir: dir}
	q.own, err = openDisk(dir, strings.TrimSpace(string(origin)), 0, nil)
	if errors.Is(err, seglog.ErrLocked) {
		q.file, err = quarantine.Open(filepath.Join(dir, QuarantineFile), quarantine.Options{Shared: true})
	}
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Out carries out a decision, or has the server carry it out, until ctx ends.
func (q *DiskQuarantine) Out(ctx context.Context, key string, d quarantine.Decision) error {
	if q.own != nil {
		_, err := q.own.refused.Out(ctx, key, d, q.own.way())
		return err
	}
	h, err := q.file.Decide(key, d, quarantine.Way{Items: Decided})
	if err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery / 10)
	defer tick.Stop()
	for {
		list, _, err := ReadDisk(q.dir)
		if err != nil || !slices.ContainsFunc(list, func(is quarantine.Held) bool { return is.Key() == h.Key() }) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: it is decided, and the server that has the spool open has not done it yet: it will, once there is room in the spool: %w", h.Key(), ctx.Err())
		case <-tick.C:
		}
	}
}

// Close closes what was opened.
func (q *DiskQuarantine) Close() error {
	if q.own != nil {
		return q.own.Close()
	}
	return q.file.Close()
}
