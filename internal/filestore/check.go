package filestore

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/sqlite"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// ReadHashes serves the hashes of the tree over all entries that the follower
// has done.
func (s *Store) ReadHashes(indexes []int64) ([]trail.Hash, error) {
	return s.hashes.ReadHashes(indexes)
}

// Tile returns the hashes of a tile, full or partial, of a tree.
func (s *Store) Tile(t tlog.Tile, of tlog.Tree) ([]byte, error) {
	data, err := s.hashes.Run(t.L*trail.TileHeight, t.N*trail.TileWidth, int64(t.W))
	if err != nil {
		return nil, err
	}
	// Whoever has got a tile keeps it for ever.
	if err := s.hashes.checkTile(t, data, of); err != nil {
		return nil, fmt.Errorf("%s: %w", trail.TilePath(t), err)
	}
	return data, nil
}

// Verify checks the ledger as it stands on the disk, and the index with it.
func (s *Store) Verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	return Verify(ctx, s.dir, o)
}

// Verify checks the ledger in dir, which may be open in a server, and its
// index: every row against the entries that it is derived from, the pages of
// the database, and the schema. It writes nothing into dir.
func Verify(ctx context.Context, dir string, o verify.Options) (*verify.Report, error) {
	r, err := verify.Dir(ctx, dir, o)
	if err != nil {
		return nil, err
	}
	limit := o.MaxFindings
	if limit <= 0 {
		limit = 1000
	}
	path := filepath.Join(dir, datadir.IndexFile)
	if !exists(path) {
		r.Notes = append(r.Notes, "there is no index; a server that opens the directory derives it")
		return r, nil
	}
	// A server that was killed leaves an index that is not at rest. One whose lock
	// cannot be looked at counts as one at work.
	free, err := seglog.Unlocked(filepath.Join(dir, trail.LockFile), func() error { return nil })
	unused := err == nil && free
	for resting := !exists(path + "-wal"); ; resting = false {
		whole := *r
		check := sqlite.Check{Path: path, Log: rawLog(dir), Resting: resting, Unused: unused, Pruned: r.Pruned,
			PrunedNow: func() (int64, error) { // by a server, since we looked
				again := o
				again.Progress = nil
				now, err := verify.Dir(ctx, dir, again)
				if err != nil {
					return 0, err
				}
				return now.Pruned, nil
			},
			Found: func(index int64, message string) {
				if len(whole.Findings) >= limit {
					whole.Omitted++
					return
				}
				whole.Findings = append(whole.Findings, verify.Finding{Kind: verify.IndexMismatch, Index: index, Where: datadir.IndexFile, Message: message})
			},
			Unproven: func(message string) { whole.Unproven = append(whole.Unproven, message) }}
		if err := check.Run(ctx); err != nil {
			return nil, fmt.Errorf("verify index: %w", err)
		}
		if resting && exists(path+"-wal") {
			continue // a server came to write while we read
		}
		slices.SortStableFunc(whole.Findings, func(a, b verify.Finding) int {
			return cmp.Or(cmp.Compare(a.Index, b.Index), strings.Compare(a.Where, b.Where))
		})
		return &whole, nil
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// A rawLog is the log in a data directory, whose segments are read as they are.
type rawLog string

// Scan implements [sqlite.Log].
func (dir rawLog) Scan(ctx context.Context, size int64, fn func(*trail.Record) error) error {
	log, err := seglog.Open(filepath.Join(string(dir), trail.LogDir), seglog.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer log.Close()
	var own error
	buf := make([]byte, 1<<20)
	for next := int64(0); next < size; {
		reader, err := log.Reader(uint64(next), seglog.FirstOffset)
		if err != nil {
			return fmt.Errorf("%w: %w", sqlite.ErrLog, err)
		}
		first := next
		next, err = readSegment(ctx, reader, buf, next, size, func(r *trail.Record) error {
			own = fn(r)
			return own
		})
		switch {
		case own != nil:
			return own
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w: %w", sqlite.ErrLog, err)
		case next == first:
			return fmt.Errorf("%w: %s holds no records", sqlite.ErrLog, seglog.SegmentName(uint64(first)))
		}
	}
	return nil
}
