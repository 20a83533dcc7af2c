package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
)

// errMissing means that a hash is not in the database.
var errMissing = errors.New("hashes are missing")

// A reader reads hashes of the tree from the database.
type reader struct {
	ctx context.Context
	q   querier
}

// ReadHashes implements [tlog.HashReader].
func (s *Store) ReadHashes(indexes []int64) ([]trail.Hash, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	return reader{ctx, s.readers}.ReadHashes(indexes)
}

// ReadHashes implements [tlog.HashReader]. The hashes of levels that are not
// kept are computed from up to 128 of the level below, and those that are read
// are read as tiles: what is asked for at a time is mostly in the same ones.
func (r reader) ReadHashes(indexes []int64) ([]trail.Hash, error) {
	type tile struct {
		level int
		n     int64
	}
	tiles := map[tile][]trail.Hash{}
	out := make([]trail.Hash, len(indexes))
	for i, x := range indexes {
		level, n := tlog.SplitStoredHashIndex(x)
		kept := level / trail.TileHeight * trail.TileHeight
		width := int64(1) << (level - kept)
		at := tile{kept, n * width / trail.TileWidth}
		list, ok := tiles[at]
		if !ok {
			var err error
			if list, err = r.upTo(kept, at.n*trail.TileWidth, trail.TileWidth); err != nil {
				return nil, err
			}
			tiles[at] = list
		}
		first := n * width % trail.TileWidth
		if int64(len(list)) < first+width {
			return nil, fmt.Errorf("%w: one of level %d, number %d", errMissing, level, n)
		}
		var t trail.Tree
		for _, h := range list[first : first+width] {
			t.Append(h, nil)
		}
		out[i] = t.Root()
	}
	return out, nil
}

// run returns hashes of a level that is kept.
func (r reader) run(level int, first, count int64) ([]trail.Hash, error) {
	list, err := r.upTo(level, first, count)
	if err == nil && int64(len(list)) != count {
		err = fmt.Errorf("%w: of %d from %d on of level %d, %d are there", errMissing, count, first, level, len(list))
	}
	return list, err
}

// upTo returns up to count hashes of a level that is kept, those before the first
// that is not there.
func (r reader) upTo(level int, first, count int64) ([]trail.Hash, error) {
	sql, args := "SELECT n, hash FROM ledger_hashes WHERE level = $1 AND n >= $2 AND n < $3 ORDER BY n", []any{level, first, first + count}
	if level == 0 {
		sql, args = "SELECT ledger_index, leaf_hash FROM audit_events WHERE ledger_index >= $1 AND ledger_index < $2 ORDER BY ledger_index", args[1:]
	}
	rows, err := r.q.Query(r.ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	list := make([]trail.Hash, 0, count)
	var n int64
	var hash []byte
	_, err = pgx.ForEachRow(rows, []any{&n, &hash}, func() error {
		if n == first+int64(len(list)) && len(hash) == len(trail.Hash{}) {
			list = append(list, trail.Hash(hash))
		}
		return nil
	})
	return list, err
}

// Tile returns the hashes of a tile, full or partial, of a tree.
func (s *Store) Tile(t tlog.Tile, of tlog.Tree) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), statementTimeout)
	defer cancel()
	r := reader{ctx, s.readers}
	list, err := r.run(t.L*trail.TileHeight, t.N*trail.TileWidth, int64(t.W))
	if err != nil {
		return nil, err
	}
	var data []byte
	for _, h := range list {
		data = append(data, h[:]...)
	}
	// Whoever has got a tile keeps it for ever.
	is, err := tree.IsTile(t, data, of, r)
	if err == nil && !is {
		err = search.ErrHashes
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", trail.TilePath(t), err)
	}
	return data, nil
}
