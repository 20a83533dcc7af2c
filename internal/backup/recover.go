package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
)

// Recover puts the successor of a ledger into the place of its own data directory,
// o.Backup, which a snapshot has set back. What stood there is kept beside it, with
// ".recovered" behind its name. Tips is asked for what is known of the ledger
// elsewhere; o.Dir is set here.
//
// A run that was interrupted leaves the directory as it was, or, in the moment
// between, under that other name only; the next run ends it.
func Recover(ctx context.Context, o RestoreOptions, tips func(context.Context) ([]Tip, error)) (*Restored, error) {
	if o.FS == nil {
		o.FS = seglog.OS{}
	}
	r, err := recoverInPlace(ctx, &o, tips)
	if err != nil {
		return nil, fmt.Errorf("recover %s: %w", o.Backup, err)
	}
	return r, nil
}

func recoverInPlace(ctx context.Context, o *RestoreOptions, tips func(context.Context) ([]Tip, error)) (*Restored, error) {
	dir, err := filepath.Abs(o.Backup)
	if err != nil {
		return nil, err
	}
	was := dir + ".recovered"
	o.Dir = dir + ".successor"
	switch there, before, err := exists(dir, was); {
	case err != nil:
		return nil, err
	case before && there:
		return nil, fmt.Errorf("%s is there, from another recovery: move it away", was)
	case before:
		return o.takePlace(dir)
	}
	if err := ownDisk(dir); err != nil {
		return nil, err
	}
	if err := sweepSuccessor(o.Dir); err != nil {
		return nil, err
	}
	if o.Tips, err = tips(ctx); err != nil {
		return nil, err
	}
	r, err := restore(ctx, o)
	if err != nil {
		return nil, err
	}
	// Nobody may have recorded anything since it was read, or does from now on.
	lock, err := seglog.Lock(filepath.Join(dir, trail.LockFile))
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if now, err := Newest(dir); err != nil {
		return nil, err
	} else if !bytes.Equal(now, []byte(r.Predecessor.Checkpoint)) {
		return nil, errors.New("something was recorded meanwhile: end the server, and run it again")
	}
	if err := o.FS.Rename(dir, was); err != nil {
		return nil, err
	}
	if err := o.FS.SyncDir(filepath.Dir(dir)); err != nil {
		return nil, err
	}
	return o.takePlace(dir)
}

// takePlace gives the successor, which is whole, the directory's name.
func (o *RestoreOptions) takePlace(dir string) (*Restored, error) {
	entry, err := firstEntry(o.Dir)
	if err != nil {
		return nil, err
	}
	p, err := succession.Parse(entry)
	if err == nil && p == nil {
		err = fmt.Errorf("%s holds no successor", o.Dir)
	}
	if err != nil {
		return nil, err
	}
	if err := o.FS.Rename(o.Dir, dir); err != nil {
		return nil, err
	}
	o.Dir = dir
	return &Restored{Predecessor: p, Dir: dir}, o.FS.SyncDir(filepath.Dir(dir))
}

// exists reports whether there is something under each of two names.
func exists(a, b string) (isA, isB bool, err error) {
	stat := func(name string) bool {
		_, e := os.Lstat(name)
		if e != nil && !errors.Is(e, os.ErrNotExist) {
			err = e
		}
		return e == nil
	}
	isA, isB = stat(a), stat(b)
	return isA, isB, err
}

// ownDisk refuses a directory that cannot get another name, because a disk is
// mounted there.
func ownDisk(dir string) error {
	var here, above syscall.Stat_t
	if err := errors.Join(syscall.Stat(dir, &here), syscall.Stat(filepath.Dir(dir), &above)); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	if here.Dev != above.Dev {
		return fmt.Errorf("a disk is mounted at %s: keep the data in a directory below, or restore it to another with restore --successor", dir)
	}
	return nil
}

// sweepSuccessor removes what a run that was interrupted has left of a successor.
// One that is whole may be in use: that is for people to see to.
func sweepSuccessor(dir string) error {
	found, err := holds(dir)
	if err != nil || len(found) == 0 {
		return err
	}
	for _, name := range found {
		if name == datadir.UnfinishedFile {
			return os.RemoveAll(dir)
		}
	}
	return fmt.Errorf("%s holds %s: move it away", dir, found[0])
}
