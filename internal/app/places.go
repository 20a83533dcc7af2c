package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/internal/transfer"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

func (c *Copy) openOrigin(ctx context.Context) (origin, error) {
	if IsDatabase(c.From) {
		return openFromDatabase(ctx, c.From)
	}
	return openFromDir(c.From, c.Move, c.FS)
}

func (c *Copy) destination(from origin, key note.Verifier, vkey string) destination {
	if IsDatabase(c.To) {
		return &toDatabase{c.To, key}
	}
	return &toDir{dir: c.To, from: from, key: key, vkey: vkey, fs: c.FS, segmentSize: c.SegmentSize}
}

// absolute returns a path by which a directory is known also from elsewhere.
func absolute(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real, nil
	}
	return dir, nil
}

// A fromDir is a directory that is copied from. To move what is in it, its lock
// is held.
type fromDir struct {
	*backup.Reader
	dir  string
	fs   seglog.FS
	lock *os.File
}

func openFromDir(dir string, move bool, fs seglog.FS) (_ *fromDir, err error) {
	f := &fromDir{dir: dir, fs: fs}
	if move {
		if !isDir(filepath.Join(dir, trail.LogDir)) {
			return nil, fmt.Errorf("%s is not the data directory of a ledger", dir)
		}
		if f.lock, err = seglog.Lock(filepath.Join(dir, trail.LockFile)); errors.Is(err, seglog.ErrLocked) {
			return nil, fmt.Errorf("%s: %w: stop the server before the ledger is moved", dir, err)
		} else if err != nil {
			return nil, err
		}
	}
	if f.Reader, err = backup.Open(dir, move); err == nil && move && f.Backup() {
		err = errors.Join(fmt.Errorf("%s is a backup, from which no ledger goes on: graven restore makes a data directory of it", dir), f.Reader.Close())
	}
	if err != nil {
		return nil, errors.Join(err, f.unlock())
	}
	return f, nil
}

func (f *fromDir) unlock() error {
	if f.lock == nil {
		return nil
	}
	return f.lock.Close()
}

func (f *fromDir) Close() error                           { return errors.Join(f.Reader.Close(), f.unlock()) }
func (f *fromDir) key() (note.Verifier, string)           { return f.Key() }
func (f *fromDir) known() []*trail.Checkpoint             { return f.Known() }
func (f *fromDir) newest(context.Context) (int64, error)  { return f.Newest() }
func (f *fromDir) tokens(context.Context) ([]byte, error) { return readFile(f.dir, datadir.TokensFile) }
func (f *fromDir) hasPredecessor() bool                   { return isDir(filepath.Join(f.dir, succession.Dir)) }
func (f *fromDir) left(c *trail.Checkpoint) error {
	// A server that keeps its keys there opens no older copy of the database.
	return seglog.WriteFile(f.fs, filepath.Join(f.dir, seenFile), c.Note)
}

func (f *fromDir) elsewhere(context.Context) (*datadir.Elsewhere, error) {
	return datadir.ReadElsewhere(f.dir)
}

func (f *fromDir) leave(_ context.Context, e *datadir.Elsewhere) error {
	return seglog.WriteFile(f.fs, filepath.Join(f.dir, datadir.ElsewhereFile), e.Encode())
}

// readFile reads a file of a directory; nil where there is none.
func readFile(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// A toDir is a directory that is copied to.
type toDir struct {
	dir         string
	from        origin
	key         note.Verifier
	vkey        string
	fs          seglog.FS
	segmentSize int64
}

// atHome are what a directory may hold that is to get a ledger whose keys are
// there: what the server of a database keeps, and what a run that was killed has
// left.
var atHome = []string{"keys", "lost+found", trail.LockFile, seenFile, datadir.TokensFile, datadir.AdminTokenFile, datadir.FormatFile, datadir.ElsewhereFile}

func (d *toDir) newest(context.Context) ([]byte, error) {
	if from, ok := d.from.(*fromDir); ok {
		if err := backup.Apart(from.dir, d.dir); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(datadir.CheckFormat(d.dir), datadir.CheckRecordable(d.dir)); err != nil {
		return nil, err
	}
	vkey, err := readFile(d.dir, trail.VKeyFile)
	if err != nil {
		return nil, err
	}
	if vkey != nil && strings.TrimSpace(string(vkey)) != d.vkey {
		return nil, fmt.Errorf("%w: it is of another ledger, with the key %.60s", transfer.ErrRefused, bytes.TrimSpace(vkey))
	}
	if isDir(filepath.Join(d.dir, trail.LogDir)) {
		if vkey == nil {
			return nil, fmt.Errorf("it holds a ledger, but not its key: bring back %s", trail.VKeyFile)
		}
		return backup.Newest(d.dir)
	}
	found, err := os.ReadDir(d.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, f := range found {
		if !slices.Contains(atHome, f.Name()) {
			return nil, fmt.Errorf("it is no data directory, and holds %s: take an empty directory", f.Name())
		}
	}
	return nil, err
}

func (d *toDir) open(_ context.Context, readOnly bool) (opened, error) {
	o := filestore.Options{Verifier: d.key, FS: d.fs, SegmentSize: d.segmentSize, ReadOnly: readOnly, Unfinished: true}
	if !readOnly {
		keys := filepath.Join(d.dir, filepath.Dir(trail.VKeyFile))
		if err := os.MkdirAll(keys, 0o700); err != nil {
			return nil, err
		}
		if err := errors.Join(d.fs.SyncDir(d.dir), d.fs.SyncDir(filepath.Dir(d.dir))); err != nil {
			return nil, err
		}
		if vkey, err := readFile(d.dir, trail.VKeyFile); err != nil {
			return nil, err
		} else if vkey == nil {
			if err := seglog.WriteFile(d.fs, filepath.Join(d.dir, trail.VKeyFile), []byte(d.vkey+"\n")); err != nil {
				return nil, err
			}
		}
	}
	s, err := filestore.Open(d.dir, o)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (d *toDir) elsewhere(context.Context) (*datadir.Elsewhere, error) {
	return datadir.ReadElsewhere(d.dir)
}

func (d *toDir) setElsewhere(_ context.Context, e *datadir.Elsewhere) error {
	path := filepath.Join(d.dir, datadir.ElsewhereFile)
	if e != nil {
		return seglog.WriteFile(d.fs, path, e.Encode())
	}
	if err := d.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.fs.SyncDir(d.dir)
}

func (d *toDir) setTokens(_ context.Context, data []byte) error {
	return seglog.WriteFile(d.fs, filepath.Join(d.dir, datadir.TokensFile), data)
}

// A fromDatabase is a database that is copied from.
type fromDatabase struct {
	*postgres.Store
	verifier note.Verifier
	vkey     string
	size     int64
}

func openFromDatabase(ctx context.Context, dsn string) (_ *fromDatabase, err error) {
	first, err := postgres.First(ctx, dsn)
	if err != nil {
		return nil, err
	}
	if first == nil {
		return nil, errors.New("there is no entry in the database that is to be copied")
	}
	f := &fromDatabase{}
	if _, f.vkey, err = trail.Created(first); err == nil {
		f.verifier, err = trail.ParseKey(f.vkey)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: entry 0 does not tell the ledger's key: %w", transfer.ErrRefused, err)
	}
	if f.Store, err = postgres.Open(ctx, dsn, postgres.Options{Verifier: f.verifier, ReadOnly: true}); err != nil {
		return nil, locate(ctx, dsn, f.verifier, err)
	}
	if f.size, err = f.newest(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// locate says, where a database was changed, what was, and where.
func locate(ctx context.Context, dsn string, key note.Verifier, err error) error {
	var refusal *postgres.Refusal
	if !errors.As(err, &refusal) || !refusal.Changed {
		return err
	}
	r, failed := postgres.Verify(ctx, dsn, verify.Options{Keys: []note.Verifier{key}, MaxFindings: 1})
	if failed != nil || r.OK() {
		return errors.Join(err, failed)
	}
	f := r.Findings[0]
	if f.Index < 0 {
		return fmt.Errorf("%w: %s: %s (%s)", err, f.Kind, f.Message, f.Where)
	}
	return fmt.Errorf("%w: %s: entry %d: %s (%s)", err, f.Kind, f.Index, f.Message, f.Where)
}

func (f *fromDatabase) Size() int64                  { return f.size }
func (f *fromDatabase) key() (note.Verifier, string) { return f.verifier, f.vkey }
func (f *fromDatabase) known() []*trail.Checkpoint   { return nil }
func (f *fromDatabase) left(*trail.Checkpoint) error { return nil }

func (f *fromDatabase) newest(ctx context.Context) (int64, error) {
	c, err := f.Newest(ctx)
	if err != nil || c == nil {
		return 0, err
	}
	return c.Size, nil
}

func (f *fromDatabase) tokens(ctx context.Context) ([]byte, error) {
	data, _, err := f.Document(ctx, tokensDocument, 0)
	return data, err
}

func (f *fromDatabase) elsewhere(ctx context.Context) (*datadir.Elsewhere, error) {
	return f.Elsewhere(ctx)
}

func (f *fromDatabase) leave(ctx context.Context, e *datadir.Elsewhere) error {
	err := f.SetElsewhere(ctx, e)
	if err == nil {
		f.size, err = f.newest(ctx)
	}
	return err
}

// A toDatabase is a database that is copied to.
type toDatabase struct {
	dsn string
	key note.Verifier
}

func (d *toDatabase) newest(ctx context.Context) ([]byte, error) { return postgres.Claim(ctx, d.dsn) }

func (d *toDatabase) open(ctx context.Context, readOnly bool) (opened, error) {
	s, err := postgres.Open(ctx, d.dsn, postgres.Options{Verifier: d.key, ReadOnly: readOnly, Copying: !readOnly})
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (d *toDatabase) elsewhere(ctx context.Context) (*datadir.Elsewhere, error) {
	return postgres.Elsewhere(ctx, d.dsn)
}

// with opens the database for a moment.
func (d *toDatabase) with(ctx context.Context, do func(*postgres.Store) error) error {
	s, err := postgres.Open(ctx, d.dsn, postgres.Options{Verifier: d.key, Copying: true})
	if err != nil {
		return err
	}
	return errors.Join(do(s), s.Close())
}

func (d *toDatabase) setElsewhere(ctx context.Context, e *datadir.Elsewhere) error {
	return d.with(ctx, func(s *postgres.Store) error { return s.SetElsewhere(ctx, e) })
}

func (d *toDatabase) setTokens(ctx context.Context, data []byte) error {
	return d.with(ctx, func(s *postgres.Store) error {
		is, version, err := s.Document(ctx, tokensDocument, 0)
		if err != nil || bytes.Equal(is, data) {
			return err
		}
		return s.SaveDocument(ctx, tokensDocument, version, data)
	})
}
