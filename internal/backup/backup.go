package backup

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

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
)

// Files in a data directory that a server needs beside the ledger. The secret
// ones are left out of a backup without the key.
var (
	openFiles   = []string{datadir.FormatFile, trail.VKeyFile, datadir.TokensFile, datadir.ElsewhereFile}
	secretFiles = []string{datadir.KeyFile, datadir.AdminTokenFile}
)

// ConfigFile is the server's configuration in a backup.
const ConfigFile = "config.yaml"

// Options of a backup.
type Options struct {
	// Source is the data directory, or another backup.
	Source string
	// Dir is the backup: a new or empty directory, or one of earlier.
	Dir string
	// WithoutKey leaves out, and removes, what would let the bearer of the
	// backup sign or log in.
	WithoutKey bool
	// Config, if not empty, is a file to be kept with the backup.
	Config string
	// FS is the file system of what is written; nil means the machine's.
	FS seglog.FS
	// Progress, if not nil, is told how far copying has come, in entries.
	Progress func(done, total int64)

	claims []claim
}

// A Result tells of a backup that was made.
type Result struct {
	Dir        string
	Checkpoint *trail.Checkpoint
	// Before is how many entries it had. Segments and Bytes were written.
	Before   int64
	Segments int
	Bytes    int64
	// Key is set if the backup holds the signing key.
	Key bool
}

func (r *Result) String() string {
	return fmt.Sprintf("%s: %d entries in %s, %d of them new (%d files, %d bytes)", r.Checkpoint.Origin, r.Checkpoint.Size, r.Dir, r.Checkpoint.Size-r.Before, r.Segments, r.Bytes)
}

// Run makes a backup, or brings one up to date. A source that does not extend
// the backup, or is damaged in what is new, is [ErrRefused].
func Run(ctx context.Context, o Options) (*Result, error) {
	if o.FS == nil {
		o.FS = seglog.OS{}
	}
	r, err := run(ctx, &o)
	if err != nil {
		return nil, fmt.Errorf("back up %s to %s: %w", o.Source, o.Dir, err)
	}
	return r, nil
}

func run(ctx context.Context, o *Options) (_ *Result, err error) {
	if err := Apart(o.Source, o.Dir); err != nil {
		return nil, err
	}
	src, err := openSource(o.Source, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, src.close()) }()
	if err := checkSecret(o, src); err != nil {
		return nil, err
	}
	if err := checkTarget(o.Dir); err != nil {
		return nil, err
	}
	if err := makeDir(o.FS, o.Dir); err != nil {
		return nil, err
	}
	lock, err := seglog.Lock(filepath.Join(o.Dir, trail.LockFile))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	w, err := prove(ctx, o, src)
	if err != nil {
		return nil, err
	}
	result := &Result{Dir: o.Dir, Before: w.at.tree.Size()}
	if err := w.begin(); err != nil {
		return nil, err
	}
	files, secrets := append(slices.Clone(openFiles), ConfigFile), secretFiles
	if o.WithoutKey {
		if err := removeFiles(o.FS, o.Dir, secrets); err != nil {
			return nil, err
		}
	} else {
		files = append(files, secrets...)
	}
	if err := copyFiles(o.FS, o.Source, o.Dir, files); err != nil {
		return nil, err
	}
	if _, err := os.Stat(filepath.Join(o.Source, datadir.ElsewhereFile)); errors.Is(err, fs.ErrNotExist) { // it is back
		if err := removeFiles(o.FS, o.Dir, []string{datadir.ElsewhereFile}); err != nil {
			return nil, err
		}
	}
	if o.Config != "" {
		if err := copyFile(o.FS, o.Config, filepath.Join(o.Dir, ConfigFile)); err != nil {
			return nil, err
		}
	}
	c := scan{source: src, at: w.at, claims: slices.Clone(o.claims), sink: w.pool, progress: o.Progress}
	if err = c.run(ctx); err == nil {
		if err = w.prune(src.log.Segments()); err == nil {
			err = w.commit()
		}
	}
	if err := errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	if err := copyFiles(o.FS, o.Source, o.Dir, []string{datadir.FormatFile}); err != nil { // something may have been erased meanwhile
		return nil, err
	}
	if err := src.keepCosigned(o.FS, o.Dir); err != nil {
		return nil, err
	}
	if err := backUpPredecessor(ctx, o); err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(o.Dir, datadir.KeyFile))
	result.Key, result.Segments, result.Bytes = err == nil, w.segments, w.bytes
	result.Checkpoint, err = trail.OpenCheckpoint(w.at.note, src.key)
	return result, err
}

// Apart demands that neither directory is, or is within, the other.
func Apart(source, dir string) error {
	from, err := realPath(source)
	if err != nil {
		return err
	}
	to, err := realPath(dir)
	if err != nil {
		return err
	}
	for _, pair := range [][2]string{{from, to}, {to, from}} {
		if rel, err := filepath.Rel(pair[0], pair[1]); err == nil && filepath.IsLocal(rel) {
			return fmt.Errorf("%s and %s are one within the other", source, dir)
		}
	}
	return nil
}

// realPath follows the links of a path, the last parts of which need not exist.
func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		real, err = realPath(filepath.Dir(path))
		real = filepath.Join(real, filepath.Base(path))
	}
	return real, err
}

// checkSecret demands that the signing key that is to be copied is there, and
// is the ledger's.
func checkSecret(o *Options, src *source) error {
	if o.WithoutKey {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(o.Source, datadir.KeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no %s: leave the key out (--without-key), or bring it back", filepath.Join(o.Source, datadir.KeyFile))
	}
	if err != nil {
		return err
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(data)))
	if err != nil {
		return fmt.Errorf("%s: %w", datadir.KeyFile, err)
	}
	if signer.Name() != src.key.Name() || signer.KeyHash() != src.key.KeyHash() {
		return fmt.Errorf("%s is not the key of the ledger %s", filepath.Join(o.Source, datadir.KeyFile), src.key.Name())
	}
	return nil
}

// checkTarget refuses a directory that holds something else than a backup.
func checkTarget(dir string) error {
	if err := datadir.CheckFormat(dir); err != nil {
		return err
	}
	found, err := holds(dir)
	if err != nil || len(found) == 0 || slices.Contains(found, datadir.BackupFile) {
		return err
	}
	return fmt.Errorf("it is no backup, and holds %s: take an empty directory", found[0])
}

// holds returns the names in a directory, but for what is there by nature.
func holds(dir string) ([]string, error) {
	names, err := (seglog.OS{}).List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return slices.DeleteFunc(names, func(name string) bool {
		return name == trail.LockFile || name == "lost+found" || name == datadir.BackupFile+".tmp"
	}), err
}

// makeDir makes a directory and its parents, durably.
func makeDir(fs seglog.FS, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := makeDir(fs, parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	return fs.SyncDir(parent)
}

// prove shows that the source extends what the backup has, up to where the copy
// will end, and returns the writer that goes on from there. It writes nothing.
func prove(ctx context.Context, o *Options, src *source) (*writer, error) {
	w := &writer{fs: o.FS, dir: o.Dir, origin: src.key.Name(), key: src.vkey}
	m, _, err := readManifest(o.Dir)
	if err != nil {
		return nil, err
	}
	if m == nil {
		w.fresh = true
		return w, nil
	}
	if m.Key != src.vkey {
		return nil, refuse("the backup is of the ledger %s, with the key %.40s…; %s is of %s, with the key %.40s…", m.Origin, m.Key, o.Source, src.key.Name(), src.vkey)
	}
	if w.at, err = positionOf(m); err != nil {
		return nil, err
	}
	// A run that was interrupted may have moved the tip before the manifest.
	tip, err := readTip(o.Dir, src.key)
	if err != nil {
		return nil, err
	}
	newest := m.Size
	claims := slices.Clone(o.claims)
	if tip != nil {
		claims = append(claims, claim{tip, "the backup"})
		newest = max(newest, tip.Size)
	}
	if src.cut < newest {
		return nil, refuse("the backup has %d entries of %s, and %s has only %d: it was rolled back, or is an older copy", newest, m.Origin, o.Source, src.cut)
	}
	if newest == 0 {
		return w, nil
	}
	c := scan{source: src, at: w.at, claims: claims, progress: o.Progress}
	return w, c.run(ctx)
}

// copyFiles copies those of the named files that there are.
func copyFiles(fs seglog.FS, from, to string, names []string) error {
	for _, name := range names {
		err := copyFile(fs, filepath.Join(from, name), filepath.Join(to, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// copyFile copies a small file, unless the copy is there. It has mode 0600.
func copyFile(fs seglog.FS, from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if old, err := os.ReadFile(to); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := makeDir(fs, filepath.Dir(to)); err != nil {
		return err
	}
	return seglog.WriteFile(fs, to, data)
}

func removeFiles(fs seglog.FS, dir string, names []string) error {
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := fs.Remove(path); errors.Is(err, os.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := fs.SyncDir(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// backUpPredecessor backs up the ledger that this one succeeds, if it is there.
func backUpPredecessor(ctx context.Context, o *Options) error {
	from := filepath.Join(o.Source, succession.Dir)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	_, err := run(ctx, &Options{Source: from, Dir: filepath.Join(o.Dir, succession.Dir), WithoutKey: true, FS: o.FS})
	if err != nil {
		return fmt.Errorf("%s: %w", succession.Dir, err)
	}
	return nil
}
