package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/inorder"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// A Fetch gets a file of a log by its path below the log's prefix, such as
// "checkpoint" or "tile/0/000". Where there is none the error is
// fs.ErrNotExist.
type Fetch func(ctx context.Context, path string) ([]byte, error)

// Log checks a log that a server offers as C2SP tlog-tiles describes it: every
// entry, every tile and the checkpoint. Package remote gets the files of one.
// The target is for the report only.
//
// Such a log has neither chain values nor details; the report says so. Bundles
// of entries that were erased may be missing: a tombstone among the other entries
// has to say so.
// Whatever is wrong with the log is in the report; an error means that it
// could not be checked.
func Log(ctx context.Context, target string, fetch Fetch, o Options) (*Report, error) {
	l := &log{ctx: ctx, o: o, rep: newReporter(target, o), keys: newKeyring(o.Keys), fetch: fetch}
	if err := l.check(ctx); err != nil {
		return nil, fmt.Errorf("verify log: %w", err)
	}
	return l.rep.report(), nil
}

// A log is one that is being checked.
type log struct {
	ctx   context.Context
	o     Options
	rep   *reporter
	keys  *keyring
	fetch Fetch
	seal  seal
	tree  *assembly

	cosigned cosigned

	current *bundle // that the collector is at
	absent  int64   // bundles in a row that were not there, nor their tiles

	absence  tombstone.Absence
	unserved []tombstone.Run // entries of bundles that are not there; their hashes are
}

// A bundle is up to 256 entries and their tile.
type bundle struct {
	n       int64
	width   int
	leaves  []trail.Hash
	tile    []trail.Hash // nil where there is none
	entries [][]byte
	missing bool
	fault   string // what is wrong with it otherwise
	err     error
}

const (
	// fetchers is the least number of requests at a time.
	fetchers = 4
	// maxAbsent is how many bundles in a row may be missing before the rest is
	// taken to be missing, too.
	maxAbsent = 64
)

var errGivenUp = errors.New("too many bundles are missing")

func (l *log) check(ctx context.Context) error {
	text, cosigned, err := fetchCheckpoints(ctx, l.fetch)
	l.cosigned = cosigned
	if err != nil {
		return err
	}
	l.seal = l.keys.open(text, false)
	if l.seal.Note == nil {
		l.rep.add(l.seal.fault, -1, "checkpoint", "%s", l.seal.reason)
		return nil
	}
	if !l.keys.given && l.seal.Size > 0 {
		first := l.bundle(0)
		if l.get(first); first.err != nil {
			return first.err
		}
		if len(first.entries) > 0 {
			l.keys.addCreated(first.entries[0])
		} else {
			l.rep.unproven("entry 0, which names the ledger's key, is not served: give the key to have signatures checked")
		}
	}
	if l.keys.check(&l.seal); l.seal.fault != "" {
		l.rep.add(l.seal.fault, l.seal.Size-1, "checkpoint", "%s", l.seal.reason)
	}
	since := append(openSince(l.rep, l.keys, l.o), l.cosigned.expect(l.rep, l.keys)...)
	l.tree = newAssembly(l.rep, since, hashSource{trail.TileHeight, l.run, tilePlace})
	workers := l.o.Workers
	if workers <= 0 {
		workers = max(runtime.GOMAXPROCS(0), fetchers)
	}
	err = inorder.Run(ctx, workers, l.bundles, l.get, l.collect)
	if err != nil && !errors.Is(err, errGivenUp) {
		return err
	}
	return l.finish()
}

func (l *log) finish() error {
	if right := l.tree.way(l.seal.Root); l.tree.next == l.seal.Size && (right != nil || l.seal.fault == "") {
		if err := l.tree.settle(right, 0, place{"checkpoint", -1}); err != nil {
			return err
		}
		if right != nil && l.seal.fault == "" {
			l.absence.Seal(l.seal.Size)
		}
	}
	if err := l.tree.finish(); err != nil {
		return err
	}
	l.reportUnserved()
	l.keys.conclude(l.rep, &l.seal)
	l.cosigned.judge(l.rep, l.o.Witnesses)
	l.rep.unproven("the details and the chain were not checked: a log serves entries only")
	return nil
}

// reportUnserved judges the bundles that are not there by the tombstones among
// the entries that are.
func (l *log) reportUnserved() {
	below, _ := l.absence.Below()
	l.rep.Pruned = below
	erased := int64(0)
	for _, r := range l.unserved {
		end := max(r.First, min(r.End(), below))
		if erased += end - r.First; end < r.End() {
			l.rep.add(Missing, end, trail.TilePath(tlog.Tile{L: -1, N: end / trail.TileWidth, W: trail.TileWidth}),
				"%s %s missing, and no tombstone in the ledger says that they may be", entries(end, r.End()), plural(r.End()-end, "is", "are"))
		}
	}
	if l.rep.Entries += erased; erased > 0 {
		l.rep.note("%d of the entries below %d are not served, for they were erased, as a tombstone in the ledger says: their hashes are left", erased, below)
	}
}

func (l *log) bundle(n int64) *bundle {
	return &bundle{n: n, width: int(min(l.seal.Size-n*trail.TileWidth, trail.TileWidth))}
}

func (l *log) bundles(_ context.Context, emit func(*bundle) error) error {
	for n := int64(0); n*trail.TileWidth < l.seal.Size; n++ {
		if err := emit(l.bundle(n)); err != nil {
			return err
		}
	}
	return nil
}

// get fetches a bundle and its tile, and hashes the entries.
func (l *log) get(b *bundle) {
	data, err := l.part(tlog.Tile{L: -1, N: b.n, W: b.width})
	if err != nil {
		b.err = err
		return
	}
	b.entries, err = trail.ParseBundle(data)
	switch {
	case data == nil:
		b.missing = true
	case err != nil:
		b.fault = err.Error()
	case len(b.entries) < b.width:
		b.fault = fmt.Sprintf("the bundle has %d entries instead of %d", len(b.entries), b.width)
	}
	b.entries = b.entries[:min(len(b.entries), b.width)]
	for _, entry := range b.entries {
		b.leaves = append(b.leaves, trail.LeafHash(entry))
	}
	if data, b.err = l.part(tlog.Tile{L: 0, N: b.n, W: b.width}); len(data) == b.width*tlog.HashSize || len(data) == trail.TileWidth*tlog.HashSize {
		b.tile = tree.Hashes(data)[:b.width]
	}
}

// FetchTile fetches a tile or bundle. A partial one that is gone was replaced by
// the full one, which is returned then.
func FetchTile(ctx context.Context, fetch Fetch, t tlog.Tile) ([]byte, error) {
	data, err := fetch(ctx, trail.TilePath(t))
	if errors.Is(err, fs.ErrNotExist) && t.W < trail.TileWidth {
		t.W = trail.TileWidth
		return fetch(ctx, trail.TilePath(t))
	}
	return data, err
}

// part fetches a tile or bundle. Where there is none, part returns nil.
func (l *log) part(t tlog.Tile) ([]byte, error) {
	data, err := FetchTile(l.ctx, l.fetch, t)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// collect takes the next bundle.
func (l *log) collect(b *bundle) error {
	if b.err != nil {
		return b.err
	}
	l.current = b
	name := trail.TilePath(tlog.Tile{L: -1, N: b.n, W: b.width})
	first, end := b.n*trail.TileWidth, b.n*trail.TileWidth+int64(b.width)
	if b.n == 0 && len(b.entries) > 0 {
		l.keys.checkCreated(l.rep, b.entries[0], name)
	}
	if b.tile == nil {
		l.rep.add(TileMismatch, first, trail.TilePath(tlog.Tile{L: 0, N: b.n, W: b.width}), "the tile is missing, or not %d hashes long", b.width)
	}
	unserved := b.missing && b.tile != nil
	if unserved {
		b.leaves = b.tile
		if last := len(l.unserved) - 1; last >= 0 && l.unserved[last].End() == first {
			l.unserved[last].Count += int64(b.width)
		} else {
			l.unserved = append(l.unserved, tombstone.Run{First: first, Count: int64(b.width)})
		}
	}
	for i, leaf := range b.leaves {
		if err := l.tree.add(slot{index: first + int64(i), where: place{name, -1}, leaf: leaf}); err != nil {
			return err
		}
	}
	for i, entry := range b.entries {
		if tombstone.Decides(entry) {
			l.absence.Decision(first+int64(i), entry)
		}
	}
	l.rep.Entries += int64(len(b.entries))
	if rest := first + int64(len(b.leaves)); rest < end {
		switch {
		case b.missing && l.absent == maxAbsent:
			l.rep.add(Missing, rest, name, "%s are missing, as far as was asked", entries(rest, l.seal.Size))
			return errGivenUp
		case b.missing:
			l.rep.add(Missing, rest, name, "%s %s missing", entries(rest, end), plural(end-rest, "is", "are"))
		default:
			l.rep.add(Changed, rest, name, "%s cannot be read: %s", entries(rest, end), b.fault)
		}
		if err := l.tree.skip(end); err != nil {
			return err
		}
	}
	if l.absent++; !b.missing || unserved {
		l.absent = 0
	}
	if l.o.Progress != nil {
		l.o.Progress(end, l.seal.Size)
	}
	return nil
}

// run returns the hashes of a tile.
func (l *log) run(level int, n int64) ([]trail.Hash, error) {
	if level == 0 {
		return l.current.tile, nil
	}
	t := tlog.Tile{L: level, N: n, W: int(min(l.seal.Size>>(trail.TileHeight*level)-n*trail.TileWidth, trail.TileWidth))}
	data, err := l.part(t)
	if data == nil && err == nil {
		l.rep.add(TileMismatch, n<<(trail.TileHeight*(level+1)), trail.TilePath(t), "the tile is missing")
	}
	return tree.Hashes(data), err
}

// tilePlace returns where a hash stands in its tile.
func tilePlace(level int, n int64) place {
	t := tlog.Tile{H: trail.TileHeight, L: level, N: n / trail.TileWidth, W: trail.TileWidth}
	return place{trail.TilePath(t), n % trail.TileWidth * tlog.HashSize}
}
