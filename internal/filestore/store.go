package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/openfile"
	"github.com/graven-audit/graven/internal/places"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/sqlite"
	"github.com/graven-audit/graven/trail"
)

// Options of a Store.
type Options struct {
	// Verifier is the ledger's public key.
	Verifier note.Verifier
	// TipFile, if set, is a second tip record, best kept on another machine's
	// disk: a copy of the directory that is older than it is not opened.
	TipFile string
	// Used says that the ledger's key has signed something before, so that a tip
	// record that is not there was lost.
	Used bool
	// SegmentSize is the size of segment files in bytes; 0 means 64 MiB.
	SegmentSize int64
	// Reserve is the space kept for the ledger's own events; 0 means 256 KiB.
	Reserve int64
	// FS is the file system of the log and the tip; nil means the machine's.
	FS seglog.FS
	// ReadOnly opens a ledger in which nothing is recorded any more, such as
	// a backup. Only what is derived is written.
	ReadOnly bool
	// Unfinished opens a directory that is being restored, or copied to.
	Unfinished bool
	// Progress, if not nil, is told how far deriving has come while opening.
	Progress func(done, total int64)
	// OnError, if not nil, is told of failures that stop nothing. It may be
	// called concurrently.
	OnError func(error)

	replaceHashes bool // make the hashes anew, also where they disagree with the log
}

// A Store is a ledger in a directory. It implements [ledger.Store] and
// [search.Index].
type Store struct {
	dir     string
	fs      seglog.FS
	tipFile string
	lock    *os.File
	log     *seglog.Log
	tip     seglog.File
	erasing sync.Mutex // held by Erase
	// deriving is held by who writes to the index: the follower, and Erase.
	deriving sync.Mutex
	// appending guards what follows. notRolled is set while no segment can be
	// begun.
	appending sync.Mutex
	head      ledger.Head
	batch     seglog.Batch
	deriver   sqlite.Deriver
	notRolled bool

	// While the store recovers: of how many entries the files of hashes have
	// all, and of how many they tell.
	recovering     bool
	whole, claimed int64

	places *places.Places
	hashes *hashes
	index  *sqlite.Index

	mu       sync.Mutex // guards what follows
	size     int64      // entries that are durable
	followed int64      // entries that the follower has done
	waiters  []waiter
	unfound  map[event.ID]int64 // ids of entries that the follower has not done
	// fed holds what the follower does next, up to fedTo, if it has not
	// fallen behind so far that it must read the log first.
	fed        []fed
	recent     []*sqlite.Rows // what is fed, for queries
	fedEntries int
	fedTo      int64
	tipNote    []byte // newest checkpoint
	failed     error  // why the follower cannot go on at present

	onError func(error)
	rows    []sqlite.Row // owned by the follower

	wake     chan struct{}
	urge     chan struct{} // somebody waits for the follower
	quit     chan struct{}
	done     chan struct{} // the follower has ended
	tipsDone chan struct{}
}

var (
	_ ledger.Store  = (*Store)(nil)
	_ search.Index  = (*Store)(nil)
	_ search.Picker = (*Store)(nil)
)

// maxUnfollowed bounds how far the follower may lag behind, in entries, before
// the store takes no more.
const maxUnfollowed = 1 << 20

// Open opens the ledger in dir, which must exist, and recovers it.
func Open(dir string, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = seglog.OS{}
	}
	if o.Reserve == 0 {
		o.Reserve = 256 << 10
	}
	s := &Store{dir: dir, fs: o.FS, tipFile: o.TipFile, unfound: map[event.ID]int64{},
		wake: make(chan struct{}, 1), urge: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{}), tipsDone: make(chan struct{}), onError: o.OnError}
	if err := s.open(o); err != nil {
		return nil, errors.Join(fmt.Errorf("open ledger in %s: %w", dir, err), s.release())
	}
	go s.follow()
	if o.ReadOnly {
		close(s.tipsDone)
	} else {
		go s.keepTips()
	}
	return s, nil
}

func (s *Store) open(o Options) error {
	if err := s.admit(o); err != nil {
		return err
	}
	for _, sub := range []string{trail.LogDir, places.Dir} {
		if err := os.MkdirAll(filepath.Join(s.dir, sub), 0o700); err != nil {
			return err
		}
	}
	var err error
	if s.lock, err = seglog.Lock(filepath.Join(s.dir, trail.LockFile)); err != nil {
		return err
	}
	if s.log, err = seglog.Open(filepath.Join(s.dir, trail.LogDir), seglog.Options{SegmentSize: o.SegmentSize, Reserve: o.Reserve, ReadOnly: o.ReadOnly, FS: o.FS}); err != nil {
		return err
	}
	if o.ReadOnly {
		return s.openDerived(o)
	}
	if err := o.FS.Remove(filepath.Join(s.dir, rewriteFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // what a crash has left
	}
	if s.tip, err = o.FS.Open(filepath.Join(s.dir, trail.TipFile), os.O_RDWR|os.O_CREATE); err != nil {
		return err
	}
	if err := o.FS.SyncDir(s.dir); err != nil { // for what was made just now
		return err
	}
	if s.tipFile != "" { // which is written later, and would be missed only when it is needed
		if _, err := s.fs.List(filepath.Dir(s.tipFile)); err != nil {
			return fmt.Errorf("the tip record outside (tipFile): %w", err)
		}
	}
	if err := s.openDerived(o); err != nil {
		return err
	}
	if s.tipFile != "" && s.tipNote != nil {
		if err := seglog.WriteFile(s.fs, s.tipFile, s.tipNote); err != nil {
			return fmt.Errorf("the tip record outside (tipFile): %w", err)
		}
	}
	return nil
}

// admit refuses a directory that is not to be opened, before anything in it is
// changed: one of a later format, or one in which nothing may be recorded.
func (s *Store) admit(o Options) error {
	if err := datadir.CheckFormat(s.dir); err != nil {
		return err
	}
	if !o.ReadOnly && !o.Unfinished {
		if err := errors.Join(datadir.CheckRecordable(s.dir), datadir.CheckHere(s.dir)); err != nil {
			return err
		}
	}
	log, err := seglog.Open(filepath.Join(s.dir, trail.LogDir), seglog.Options{ReadOnly: true, FS: o.FS})
	if errors.Is(err, os.ErrNotExist) {
		return nil // a new ledger
	}
	if err != nil {
		return err
	}
	return errors.Join(checkVersions(log), log.Close())
}

// checkVersions refuses a log whose last segment is, or holds, something of a
// later format.
func checkVersions(log *seglog.Log) error {
	bases := log.Segments()
	if len(bases) == 0 {
		return nil
	}
	base := bases[len(bases)-1]
	r, err := log.Reader(base, seglog.FirstOffset)
	if err != nil {
		return err
	}
	if err := r.CheckHeader(); errors.Is(err, datadir.ErrNewer) {
		return err
	}
	var last []byte
	buf := make([]byte, 1<<20)
	for {
		frames, err := r.Next(buf)
		if err != nil { // damage and the end are for recovery
			return datadir.CheckEntry(last)
		}
		for _, f := range frames {
			switch kind := f.Body[0]; {
			case kind > trail.FramePruned:
				return fmt.Errorf("%s: %w", seglog.SegmentName(base), datadir.Newer(fmt.Sprintf("the frame at byte %d is", f.Offset), kind, trail.FramePruned))
			case trail.IsRecord(f.Body):
				if rec, err := trail.ParseFrame(f.Body); err == nil {
					last = append(last[:0], rec.Entry...)
				}
			}
		}
	}
}

// openDerived opens the hashes and the index, and recovers.
func (s *Store) openDerived(o Options) error {
	if err := s.openHashes(o.replaceHashes); err != nil {
		return err
	}
	path := filepath.Join(s.dir, datadir.IndexFile)
	var err error
	s.index, err = sqlite.Open(path)
	if errors.Is(err, sqlite.ErrFormat) { // it is made anew, like one that is not there
		for _, suffix := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(path + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		s.index, err = sqlite.Open(path)
	}
	if err != nil {
		return err
	}
	s.places = places.New(s.log, filepath.Join(s.dir, places.Dir))
	return s.recover(o)
}

// Head returns the state of the ledger. It is for the appending goroutine, and
// for whoever comes before it.
func (s *Store) Head() ledger.Head { return s.head }

// Lock implements [ledger.Store]. There is one writer: the directory is locked
// as long as the store is open.
func (s *Store) Lock(context.Context, int64) (ledger.Head, error) { return s.head, nil }

// Unlock implements [ledger.Store].
func (s *Store) Unlock() {}

// Append implements [ledger.Store].
func (s *Store) Append(_ context.Context, p *ledger.Pool) error {
	s.appending.Lock()
	defer s.appending.Unlock()
	first := p.Records[0].Index
	if first != s.head.Tree.Size() {
		panic("internal error: a pool does not extend the head")
	}
	if err := s.room(); err != nil {
		return err
	}
	if err := s.roll(first); err != nil {
		return ledgerError(err)
	}
	b := &s.batch
	b.Reset()
	size := 2048 // of the checkpoint, and something
	pruned := false
	for i := range p.Records {
		size += 128 + len(p.Records[i].Entry) + len(p.Records[i].Erasable)
		pruned = pruned || p.Records[i].Leaf != nil
	}
	if pruned { // which are copied from elsewhere
		if err := s.markErased(); err != nil {
			return ledgerError(err)
		}
	}
	b.Grow(size)
	for i := range p.Records {
		b.Add(p.Records[i].AppendFrame)
	}
	b.Add(func(dst []byte) []byte {
		return append(append(dst, trail.FrameCheckpoint), p.Head.Checkpoint.Note...)
	})
	offset, err := s.log.Append(b, p.Own)
	if err != nil {
		return ledgerError(err)
	}
	for i := range p.Records {
		s.places.Add(offset + b.Offset(i))
	}
	fresh := s.head.Checkpoint == nil
	s.head = p.Head
	err = writeTip(s.tip, p.Head.Checkpoint.Note)
	if err == nil && fresh {
		err = s.tip.Sync() // from now on a ledger without a tip has lost it
	}
	if err != nil {
		// Without a tip record a damaged pool could pass for one that was
		// never acknowledged.
		return fmt.Errorf("%w: write tip: %w", ledger.ErrBroken, err)
	}
	rows := make([]sqlite.Row, len(p.Records))
	for i := range rows {
		rows[i] = s.deriver.Row(p.Records[i].Index, p.Events[i])
	}
	s.mu.Lock()
	s.size, s.tipNote = p.Head.Checkpoint.Size, p.Head.Checkpoint.Note
	for i := range rows {
		s.unfound[rows[i].ID] = rows[i].Index
	}
	s.feed(p, rows)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return nil
}

// maxSegment bounds a segment behind which none can be begun, in bytes: offsets
// have 32 bits.
const maxSegment = 3 << 30

// roll begins a new segment at entry first if it is time. Where there can be
// none, for want of files, blocks or permissions, recording goes on in the old.
func (s *Store) roll(first int64) error {
	if !s.log.Full() {
		return nil
	}
	err := s.log.Roll(uint64(first))
	if err == nil {
		s.notRolled = false
		s.places.Roll(first)
		return nil
	}
	if first == 0 || errors.Is(err, seglog.ErrBroken) || s.log.End() > maxSegment {
		return err
	}
	if !s.notRolled && s.onError != nil {
		s.onError(fmt.Errorf("the log goes on in its last file: %w", err))
	}
	s.notRolled = true
	return nil
}

// room refuses pools while the follower lags too far behind, or has failed.
func (s *Store) room() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(s.failed, ErrTip) {
		return fmt.Errorf("%w: %w", ledger.ErrBroken, s.failed)
	}
	if s.size-s.followed > maxUnfollowed {
		return fmt.Errorf("%w: the index lags behind", ledger.ErrBusy)
	}
	return nil
}

func ledgerError(err error) error {
	switch {
	case errors.Is(err, seglog.ErrFull):
		return fmt.Errorf("%w: %w", ledger.ErrFull, err)
	case errors.Is(err, seglog.ErrBroken):
		return fmt.Errorf("%w: %w", ledger.ErrBroken, err)
	}
	return err
}

// Find implements [ledger.Store].
func (s *Store) Find(ctx context.Context, ids []event.ID, indexes []int64) error {
	// One that the follower finishes in between is in the index by then.
	s.mu.Lock()
	var ask []int
	for i, id := range ids {
		if index, ok := s.unfound[id]; ok {
			indexes[i] = index
		} else {
			ask = append(ask, i)
		}
	}
	s.mu.Unlock()
	return s.index.Find(ctx, ids, indexes, ask)
}

// Recent implements [ledger.Store].
func (s *Store) Recent(ctx context.Context, from, to time.Time) (map[event.ID]int64, error) {
	// As in Find, the index is asked last.
	ids := map[event.ID]int64{}
	s.mu.Lock()
	for id, i := range s.unfound {
		if t, ok := id.Time(); ok && !t.Before(from) && t.Before(to) {
			ids[id] = i
		}
	}
	s.mu.Unlock()
	return ids, s.index.Recent(ctx, from, to, ids)
}

// Record implements [ledger.Store]. A record that is not the one that was
// sealed, as far as the hashes in the tree tell, is [search.ErrChanged].
func (s *Store) Record(_ context.Context, index int64) (trail.Record, error) {
	r, err := s.record(index)
	if err != nil {
		return r, err
	}
	leaf, known, err := s.hashes.Leaf(index)
	if err != nil {
		return r, fmt.Errorf("record %d: %w", index, err)
	}
	if own := r.LeafHash(); known && leaf != own && !s.hashes.mistaken(index, own) {
		return r, fmt.Errorf("%w: entry %d", search.ErrChanged, index)
	}
	if err := r.CheckErasable(); err != nil {
		return r, fmt.Errorf("%w: entry %d: %w", search.ErrChanged, index, err)
	}
	return r, nil
}

// Stored returns a reader of the records as they stand on the disk, changed or
// not, for those who judge them.
func (s *Store) Stored() search.Reader { return stored{s} }

type stored struct{ s *Store }

func (d stored) Record(_ context.Context, index int64) (trail.Record, error) {
	return d.s.record(index)
}

func (d stored) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return d.s.records(ctx, r, fn)
}

func (s *Store) record(index int64) (trail.Record, error) {
	r, _, _, err := s.locate(index)
	return r, err
}

// locate returns a record, and where it stands. Offsets that do not lead there
// are made anew.
func (s *Store) locate(index int64) (r trail.Record, base uint64, offset int64, err error) {
	for renewed := false; ; renewed = true {
		if base, offset, err = s.places.Find(index); err != nil {
			return r, base, offset, fmt.Errorf("record %d: %w", index, err)
		}
		r, err = s.recordAt(index, base, offset)
		if err == nil || renewed || openfile.TooMany(err) || !s.places.Renew(base) {
			return r, base, offset, err
		}
	}
}

func (s *Store) recordAt(index int64, base uint64, offset int64) (trail.Record, error) {
	body, err := s.log.ReadFrame(base, offset)
	if err != nil {
		return trail.Record{}, fmt.Errorf("record %d: %w", index, err)
	}
	r, err := trail.ParseFrame(body)
	if err != nil || r.Index != index {
		return trail.Record{}, fmt.Errorf("record %d: byte %d of %s holds something else", index, offset, seglog.SegmentName(base))
	}
	return r, nil
}

// Records calls fn for each record within r, in order, until fn gives an
// error, which it returns. The record is valid during the call only. One that
// does not follow from the one before it is [search.ErrChanged].
func (s *Store) Records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return search.Sealed(ctx, s.Stored(), r, fn)
}

// Chained implements [search.ChainedReader].
func (s *Store) Chained(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	return search.Chained(ctx, s.Stored(), r, fn)
}

func (s *Store) records(ctx context.Context, r search.Range, fn func(*trail.Record) error) error {
	if r.First >= r.End {
		return nil
	}
	_, base, offset, err := s.locate(r.First)
	if err != nil {
		return err
	}
	next := r.First
	buf := make([]byte, 1<<20)
	var failed error // fn
	for {
		reader, err := s.log.Reader(base, offset)
		if err != nil {
			return err
		}
		before := next
		next, err = readSegment(ctx, reader, buf, next, r.End, func(r *trail.Record) error {
			failed = fn(r)
			return failed
		})
		if failed != nil || ctx.Err() != nil || next == r.End {
			return err
		}
		if _, begins := slices.BinarySearch(s.log.Segments(), uint64(next)); begins && err == nil && next > before {
			base, offset = uint64(next), seglog.FirstOffset
			continue
		}
		if err == nil {
			err = fmt.Errorf("read record %d: %s ends before it", next, seglog.SegmentName(base))
		}
		// Entries before it may have been erased meanwhile, so that it stands
		// elsewhere.
		_, in, at, lost := s.locate(next)
		if lost != nil || next == before && in == base && at == offset {
			return err
		}
		base, offset = in, at
	}
}

// readSegment calls fn for the records from next on, below end, that stand in
// one segment, and returns the index behind the last.
func readSegment(ctx context.Context, reader *seglog.Reader, buf []byte, next, end int64, fn func(*trail.Record) error) (int64, error) {
	for next < end {
		if err := ctx.Err(); err != nil {
			return next, err
		}
		frames, err := reader.Next(buf)
		if errors.Is(err, io.EOF) {
			return next, nil
		}
		if err != nil {
			return next, err
		}
		for _, f := range frames {
			if !trail.IsRecord(f.Body) {
				continue
			}
			r, err := trail.ParseFrame(f.Body)
			if err != nil || r.Index != next {
				return next, fmt.Errorf("record %d: byte %d holds something else", next, f.Offset)
			}
			if err := fn(&r); err != nil {
				return next, err
			}
			if next++; next == end {
				return next, nil
			}
		}
	}
	return next, nil
}

// Close ends the follower after it has caught up, and closes all files. The
// ledger on top must be closed before.
func (s *Store) Close() error {
	close(s.quit)
	<-s.done
	<-s.tipsDone
	return s.release()
}

func (s *Store) release() error {
	var errs []error
	if s.index != nil {
		errs = append(errs, s.index.Close())
	}
	if s.places != nil {
		errs = append(errs, s.places.Close())
	}
	if s.hashes != nil {
		errs = append(errs, s.hashes.Close())
	}
	if s.tip != nil {
		errs = append(errs, s.tip.Sync(), s.tip.Close())
	}
	if s.log != nil {
		errs = append(errs, s.log.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
