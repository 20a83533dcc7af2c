package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A Tip is a checkpoint of the ledger that somebody kept.
type Tip struct {
	Note []byte
	// From says who, such as a file or an address.
	From string
	// Remembered tips are what somebody happens to have seen last. They can
	// show that a backup is too old, but not that it is new enough.
	Remembered bool
	// Dir is the data directory that the tip stands in, if it does.
	Dir string
}

// ends reports whether the tip's own directory, at rest, ends where the backup
// does: with a pool, perhaps, of which the tip does not tell yet, for nobody
// was told of it.
func (t *Tip) ends(src *source) (bool, error) {
	if t.Dir == "" {
		return false, nil
	}
	own, err := openSource(t.Dir, false)
	if err != nil {
		return false, nil // what is left of it tells no more than its tip
	}
	return own.kept == nil && own.cut == src.cut, own.close()
}

// RestoreOptions are those of [Restore].
type RestoreOptions struct {
	// Backup is a backup, or the copy of a data directory.
	Backup string
	// Dir is where to. It must be empty, or not exist.
	Dir string
	// Keys, if there are any, are the ledger's from outside.
	Keys []note.Verifier
	// Tips are all that can be found.
	Tips []Tip
	// Found, if not nil, makes the successor of the ledger in dir; the ledger
	// itself is kept below it.
	Found func(dir string, p *succession.Predecessor) error
	// FS is the file system of what is written; nil means the machine's.
	FS seglog.FS
	// Progress, if not nil, is told how far copying has come, in entries.
	Progress func(done, total int64)

	unswept bool // for tests: what is left stays, as after a kill
}

// A Restored tells of what was restored.
type Restored struct {
	Checkpoint *trail.Checkpoint
	// Predecessor is nil if the ledger goes on under its name.
	Predecessor *succession.Predecessor
	Dir         string
}

func (r *Restored) String() string {
	p := r.Predecessor
	if p == nil {
		return fmt.Sprintf("%s holds %s with %d entries, and goes on from there; see to it that no other copy does", r.Dir, r.Checkpoint.Origin, r.Checkpoint.Size)
	}
	below := filepath.Join(r.Dir, succession.Dir)
	return fmt.Sprintf("%s holds a new ledger, which succeeds %s; %s\nits %d entries are in %s (graven serve --read-only --data %s)\nhand out the new key: %s",
		r.Dir, p.Origin, p.Lost, p.Size, below, below, filepath.Join(r.Dir, trail.VKeyFile))
}

// Restore makes a data directory from a backup. A backup that is damaged, or
// that does not extend every tip, is [ErrRefused]; so is one of which nothing
// shows that nothing newer was signed, unless another ledger succeeds it.
//
// Until the end the directory is marked, so that no server opens it. After an
// error nothing is left.
func Restore(ctx context.Context, o RestoreOptions) (*Restored, error) {
	if o.FS == nil {
		o.FS = seglog.OS{}
	}
	r, err := restore(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("restore %s to %s: %w", o.Backup, o.Dir, err)
	}
	return r, nil
}

func restore(ctx context.Context, o *RestoreOptions) (_ *Restored, err error) {
	if err := Apart(o.Backup, o.Dir); err != nil {
		return nil, err
	}
	lock, err := lockBackup(o.Backup)
	if err != nil {
		return nil, err
	}
	if lock != nil {
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	src, err := openSource(o.Backup, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if len(o.Keys) > 0 && !slices.ContainsFunc(o.Keys, func(k note.Verifier) bool { return trail.KeyID(k) == trail.KeyID(src.key) }) {
		return nil, refuse("the backup is of the ledger with the key %s, not %s", trail.KeyID(src.key), trail.KeyID(o.Keys[0]))
	}
	claims, newest, err := o.judge(src)
	if err != nil {
		return nil, err
	}
	if found, err := holds(o.Dir); err != nil {
		return nil, err
	} else if slices.Contains(found, datadir.UnfinishedFile) {
		return nil, fmt.Errorf("a restore into %s was interrupted: remove what is there, and restore anew", o.Dir)
	} else if len(found) > 0 {
		return nil, fmt.Errorf("it holds %s: take an empty directory", found[0])
	}
	if err := mark(o.FS, o.Dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && !o.unswept {
			err = errors.Join(err, sweep(o.Dir))
		}
	}()
	restored := &Restored{Dir: o.Dir}
	if o.Found == nil {
		restored.Checkpoint, err = o.goOn(ctx, src, claims)
	} else {
		restored.Predecessor, err = o.succeed(ctx, src, claims, newest)
	}
	if err != nil {
		return nil, err
	}
	return restored, removeFiles(o.FS, o.Dir, []string{datadir.UnfinishedFile})
}

// lockBackup keeps others from writing to a backup meanwhile. Nobody can, where
// we cannot.
func lockBackup(dir string) (*os.File, error) {
	if _, err := os.Stat(filepath.Join(dir, datadir.BackupFile)); err != nil {
		return nil, nil // it is none, and openSource says what else it is
	}
	lock, err := seglog.Lock(filepath.Join(dir, trail.LockFile))
	if errors.Is(err, syscall.EROFS) {
		return nil, nil
	}
	return lock, err
}

// judge decides whether a ledger may go on from a backup, given what is known
// of it: it returns the tips that the backup must extend, and the size of the
// newest of all, nil if there is none.
func (o *RestoreOptions) judge(src *source) (claims []claim, newest *int64, err error) {
	current := false // a tip shows that the backup is the newest
	var older *claim // the newest that does not
	var beyond *claim
	for _, t := range o.Tips {
		cp, err := trail.OpenCheckpoint(t.Note, src.key)
		if err != nil {
			return nil, nil, refuse("%s does not hold a checkpoint of the ledger %s: %w", t.From, src.key.Name(), err)
		}
		c := claim{cp, t.From}
		if (cp.Size > src.cut || !t.Remembered) && (newest == nil || cp.Size > *newest) {
			newest = &cp.Size
		}
		if cp.Size > src.cut {
			if beyond == nil || cp.Size > beyond.Size {
				beyond = &c
			}
			continue
		}
		claims = append(claims, c)
		ends, err := t.ends(src)
		if err != nil {
			return nil, nil, err
		}
		current = current || cp.Size == src.cut && !t.Remembered || ends
		if !t.Remembered && (older == nil || cp.Size > older.Size) {
			older = &c
		}
	}
	if newest != nil && *newest < src.cut {
		newest = nil // of what came behind the backup, nobody knows
	}
	switch {
	case o.Found != nil:
		return claims, newest, nil
	case beyond != nil:
		return nil, nil, refuse("the backup has %d entries, and %s knows of %d: to sign on would fork the ledger; bring a newer backup, or let another ledger succeed it (--successor), which says that entries %d to %d are lost",
			src.cut, beyond.who, beyond.Size, src.cut, beyond.Size-1)
	case !current:
		because := ""
		if older != nil {
			because = fmt.Sprintf(": the newest tip, %s, knows of %d", older.who, older.Size)
		}
		return nil, nil, refuse("nothing shows that the backup's %d entries are all that were signed%s. Give the newest tip with --tip: the server's tipFile, the file tip of the old directory, the newest checkpoint of whoever follows the ledger. Without one, another ledger can succeed it (--successor)",
			src.cut, because)
	}
	if _, err := os.Stat(filepath.Join(o.Backup, datadir.KeyFile)); err != nil {
		return nil, nil, fmt.Errorf("the backup has no signing key: put it back as %s, or let another ledger succeed it (--successor)", filepath.Join(o.Backup, datadir.KeyFile))
	}
	return claims, newest, nil
}

// goOn restores the ledger under its name. Its key comes last.
func (o *RestoreOptions) goOn(ctx context.Context, src *source, claims []claim) (*trail.Checkpoint, error) {
	w := &writer{fs: o.FS, dir: o.Dir, bare: true}
	if err := w.begin(); err != nil {
		return nil, err
	}
	c := scan{source: src, claims: claims, sink: w.pool, progress: o.Progress}
	err := c.run(ctx)
	if err == nil {
		if err = w.prune(src.log.Segments()); err == nil {
			err = w.commit()
		}
	}
	if err := errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	if err := src.keepCosigned(o.FS, o.Dir); err != nil {
		return nil, err
	}
	back := &Options{Source: o.Backup, Dir: o.Dir, FS: o.FS}
	if err := backUpPredecessor(ctx, back); err != nil {
		return nil, err
	}
	if err := copyFiles(o.FS, o.Backup, o.Dir, append(slices.Clone(openFiles), ConfigFile, datadir.AdminTokenFile)); err != nil {
		return nil, err
	}
	if err := o.verify(ctx, o.Dir, src.key, claims); err != nil {
		return nil, err
	}
	if err := errors.Join(checkSecret(back, src), copyFiles(o.FS, o.Backup, o.Dir, []string{datadir.KeyFile})); err != nil {
		return nil, err
	}
	return trail.OpenCheckpoint(w.at.note, src.key)
}

// succeed keeps the ledger below the new directory, and has its successor made.
func (o *RestoreOptions) succeed(ctx context.Context, src *source, claims []claim, newest *int64) (*succession.Predecessor, error) {
	below := filepath.Join(o.Dir, succession.Dir)
	kept, err := run(ctx, &Options{Source: o.Backup, Dir: below, WithoutKey: true, FS: o.FS, Progress: o.Progress, claims: claims})
	if err != nil {
		return nil, err
	}
	if err := o.verify(ctx, below, src.key, claims); err != nil {
		return nil, err
	}
	if err := copyFiles(o.FS, o.Backup, o.Dir, []string{datadir.TokensFile, datadir.AdminTokenFile, ConfigFile}); err != nil {
		return nil, err
	}
	p := succession.New(src.vkey, kept.Checkpoint, newest)
	if err := o.Found(o.Dir, p); err != nil {
		return nil, fmt.Errorf("found the successor: %w", err)
	}
	_, key, err := readKey(o.Dir)
	if err != nil {
		return nil, err
	}
	return p, o.verify(ctx, o.Dir, key, nil)
}

// verify has what was written checked by those who did not write it.
func (o *RestoreOptions) verify(ctx context.Context, dir string, key note.Verifier, claims []claim) error {
	opts := verify.Options{Keys: []note.Verifier{key}}
	for _, c := range claims {
		opts.Since = append(opts.Since, c.Note)
	}
	r, err := verify.Dir(ctx, dir, opts)
	if err != nil {
		return err
	}
	if !r.OK() {
		f := r.Findings[0]
		return refuse("what was restored does not verify: %s: %s (%s)", f.Kind, f.Message, f.Where)
	}
	return nil
}

// mark makes an empty directory one that no server opens.
func mark(fs seglog.FS, dir string) error {
	if err := makeDir(fs, dir); err != nil {
		return err
	}
	f, err := fs.Open(filepath.Join(dir, datadir.UnfinishedFile), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), fs.SyncDir(dir)); err != nil {
		return errors.Join(err, sweep(dir))
	}
	return nil
}

// sweep removes what a restore that failed has left in a directory that was
// empty. The mark goes last.
func sweep(dir string) error {
	names, err := holds(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name != datadir.UnfinishedFile {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
	}
	if err != nil {
		return err
	}
	for _, name := range []string{trail.LockFile, datadir.UnfinishedFile} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}
