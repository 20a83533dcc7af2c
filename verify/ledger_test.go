package verify_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A key is a signing key and its public half.
type key struct {
	note.Signer
	vkey     string
	verifier note.Verifier
}

// newKey makes the key of a ledger; the same seed gives the same key.
func newKey(t testing.TB, origin string, seed uint64) key {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.NewChaCha8(sha256.Sum256(fmt.Append(nil, origin, seed))), origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return key{signer, vkey, verifier}
}

// A cached verifier remembers what it has verified, for tests that verify the
// same checkpoints very often.
type cached struct {
	note.Verifier
	seen map[string]bool
}

func (c cached) Verify(msg, sig []byte) bool {
	k := string(msg) + string(sig)
	if _, ok := c.seen[k]; !ok {
		c.seen[k] = c.Verifier.Verify(msg, sig)
	}
	return c.seen[k]
}

// A ledger is one in memory, from which a data directory is written.
type ledger struct {
	key     key
	records []trail.Record
	// pools are the ledger's checkpoints, segments the bases of its segments.
	pools    []*trail.Checkpoint
	segments []int64
	tree     trail.Tree
	leaves   []trail.Hash
	rand     *rand.Rand
	tiles    bool
}

const origin = "ledger.example/prod"

// newLedger makes a ledger whose pools have the given sizes. A size of 0
// begins a new segment.
func newLedger(t testing.TB, seed uint64, pools ...int) *ledger {
	t.Helper()
	l := &ledger{key: newKey(t, origin, 1), rand: rand.New(rand.NewPCG(seed, 1)), tiles: true, segments: []int64{0}}
	for _, n := range pools {
		if n == 0 {
			l.segments = append(l.segments, l.tree.Size())
			continue
		}
		for range n {
			l.append(t, l.event(t))
		}
		l.seal(t)
	}
	return l
}

// event makes the next event.
func (l *ledger) event(t testing.TB) *event.Event {
	t.Helper()
	i := len(l.records)
	now := time.Date(2026, 3, 19, 14, 30, 0, 0, time.UTC).Add(time.Duration(i) * time.Second)
	e := &event.Event{EventType: "RemediationExecuted", Timestamp: now, Actor: event.Actor{Type: "controller", Name: "c"},
		Resource: event.Resource{Kind: "Plan", Name: fmt.Sprint("p-", i)}, ID: event.DeriveID("test", fmt.Sprint(i))}
	details := map[string]any{"n": i}
	if i == 0 {
		e.EventType = "LedgerCreated"
		details = map[string]any{"origin": l.key.Name(), "key": l.key.vkey, "version": 1}
		e.Ledger = fmt.Appendf(nil, `{"created":{"key":%q,"origin":%q,"version":1}}`, l.key.vkey, l.key.Name())
	}
	switch {
	case i > 0 && i%4 == 1:
		e.Error = event.Failure{Code: "E", Message: `it "failed","message":"` + strings.Repeat("x", l.rand.IntN(20))}
		e.Outcome = "failed"
	case i%4 == 2:
		e.Severity = "warning"
		details = nil
	case i%4 == 3:
		details["message"], details["original"] = "m", map[string]any{"a": "b"}
	}
	if details != nil {
		if err := e.SetDetails(details); err != nil {
			t.Fatal(err)
		}
	}
	e.Complete(now)
	e.Recorded = event.Recorded{At: now, Principal: "p", Via: "token", Attribution: event.AttributionAsserted, Uncatalogued: e.Recorded.Uncatalogued}
	if err := e.Validate(now); err != nil {
		t.Fatal(err)
	}
	return e
}

// append appends an event that no checkpoint covers yet.
func (l *ledger) append(t testing.TB, e *event.Event) {
	t.Helper()
	r := trail.Record{Index: l.tree.Size()}
	binary.LittleEndian.PutUint64(r.Salt[:], l.rand.Uint64())
	binary.LittleEndian.PutUint64(r.Salt[8:], l.rand.Uint64())
	r.Entry = e.AppendEntry(nil, e.Digests(r.Salt))
	r.Erasable = e.AppendErasable(nil)
	var previous trail.Hash
	if r.Index > 0 {
		previous = l.records[r.Index-1].Chain
	}
	r.Chain = trail.Link(previous, r.Entry)
	l.records = append(l.records, r)
	leaf := trail.LeafHash(r.Entry)
	l.leaves = append(l.leaves, leaf)
	l.tree.Append(leaf, nil)
}

func (l *ledger) seal(t testing.TB) {
	t.Helper()
	c, err := trail.SignCheckpoint(l.key.Name(), l.tree.Size(), l.tree.Root(), l.key)
	if err != nil {
		t.Fatal(err)
	}
	l.pools = append(l.pools, c)
}

// resign makes chain, leaves and checkpoints anew after records were changed.
func (l *ledger) resign(t testing.TB) {
	t.Helper()
	old := l.pools
	l.tree, l.leaves, l.pools = trail.Tree{}, nil, nil
	var chain trail.Hash
	for i := range l.records {
		r := &l.records[i]
		r.Index = int64(i)
		chain = trail.Link(chain, r.Entry)
		r.Chain = chain
		leaf := trail.LeafHash(r.Entry)
		l.leaves = append(l.leaves, leaf)
		l.tree.Append(leaf, nil)
		if len(old) > 0 && old[0].Size == l.tree.Size() {
			l.seal(t)
			old = old[1:]
		}
	}
}

// tiny returns the next record with an entry that is tiny and no event.
func (l *ledger) tiny() trail.Record {
	r := trail.Record{Index: int64(len(l.records)), Erasable: []byte("{}")}
	r.Entry = fmt.Appendf(nil, `{"n":%d,"detailsDigest":"%x"}`, r.Index, sha256.Sum256(append(r.Salt[:], "{}"...)))
	r.Chain = trail.Link(l.records[r.Index-1].Chain, r.Entry)
	return r
}

// erase erases the details of an entry.
func (l *ledger) erase(i int) { l.records[i].Salt, l.records[i].Erasable = event.Salt{}, nil }

// newest returns the newest checkpoint.
func (l *ledger) newest() *trail.Checkpoint { return l.pools[len(l.pools)-1] }

// An image is the content of a data directory, by name.
type image map[string][]byte

func (i image) clone() image {
	c := image{}
	for name, data := range i {
		c[name] = bytes.Clone(data)
	}
	return c
}

// write writes the directory and returns its path.
func (i image) write(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range i {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// segments returns the names of the segment files, in order.
func (i image) segments() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(i)), func(name string) bool { return !strings.HasPrefix(name, "log/") })
}

// image returns the ledger's data directory, written by the log's own code.
func (l *ledger) image(t testing.TB) image {
	t.Helper()
	dir := t.TempDir()
	log, err := seglog.Open(dir, seglog.Options{SegmentSize: 1 << 40, FS: unsynced{}})
	if err != nil {
		t.Fatal(err)
	}
	pools, next := l.pools, 0
	for s, base := range l.segments {
		if err := log.Roll(uint64(base)); err != nil {
			t.Fatal(err)
		}
		for len(pools) > 0 && (s == len(l.segments)-1 || pools[0].Size <= l.segments[s+1]) {
			var b seglog.Batch
			for ; next < int(pools[0].Size); next++ {
				b.Add(l.records[next].AppendFrame)
			}
			b.Add(func(dst []byte) []byte { return append(append(dst, trail.FrameCheckpoint), pools[0].Note...) })
			if _, err := log.Append(&b, false); err != nil {
				t.Fatal(err)
			}
			pools = pools[1:]
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	i := image{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			i["log/"+d.Name()], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.pools) > 0 {
		i["tip"] = append(bytes.Clone(l.newest().Note), make([]byte, trail.TipSize-len(l.newest().Note))...)
	}
	i["keys/ledger.vkey"] = []byte(l.key.vkey + "\n")
	if l.tiles {
		for path, data := range l.rowFiles() {
			i[path] = data
		}
	}
	return i
}

// rowFiles returns the tree's hashes as a directory has them.
func (l *ledger) rowFiles() map[string][]byte {
	files := map[string][]byte{}
	var t trail.Tree
	for _, leaf := range l.leaves[:l.tree.Size()] {
		t.Append(leaf, func(level int, _ int64, h trail.Hash) {
			if level%tree.RowHeight == 0 {
				name := tree.Dir + "/" + tree.Name(level/tree.RowHeight)
				files[name] = append(files[name], h[:]...)
			}
		})
	}
	return files
}

// tileFiles returns the tree's tiles, the partial ones too if asked for.
func (l *ledger) tileFiles(partial bool) map[string][]byte {
	files := map[string][]byte{}
	row := l.leaves[:l.tree.Size()]
	for level := 0; len(row) > 0; level++ {
		var above []trail.Hash
		for n := 0; n*trail.TileWidth < len(row); n++ {
			part := row[n*trail.TileWidth : min((n+1)*trail.TileWidth, len(row))]
			if len(part) == trail.TileWidth {
				var sub trail.Tree
				for _, h := range part {
					sub.Append(h, nil)
				}
				above = append(above, sub.Root())
			}
			if len(part) < trail.TileWidth && !partial {
				continue
			}
			var data []byte
			for _, h := range part {
				data = append(data, h[:]...)
			}
			files[trail.TilePath(tlog.Tile{L: level, N: int64(n), W: len(part)})] = data
		}
		row = above
	}
	return files
}

// unsynced is the machine's file system, in a hurry.
type unsynced struct{ seglog.OS }

type unsyncedFile struct{ seglog.File }

func (unsyncedFile) Sync() error { return nil }

func (unsynced) SyncDir(string) error { return nil }

func (u unsynced) Open(name string, flag int) (seglog.File, error) {
	f, err := u.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

// frames takes a segment file apart into the bodies of its frames.
func frames(data []byte) (bodies [][]byte) {
	for at := int(seglog.FirstOffset); at+8 <= len(data); {
		n := int(binary.LittleEndian.Uint32(data[at:]))
		if n == 0 {
			break
		}
		bodies = append(bodies, bytes.Clone(data[at+8:at+8+n]))
		at += 8 + n
	}
	return bodies
}

// join makes a segment file of a header and frames, with good checksums.
func join(header []byte, bodies [][]byte) []byte {
	out := bytes.Clone(header[:seglog.FirstOffset])
	for _, b := range bodies {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(b)))
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		out = append(out, b...)
	}
	return out
}

// edit rewrites the frames of segment n, with good checksums.
func (i image) edit(n int, change func(bodies [][]byte) [][]byte) {
	name := i.segments()[n]
	i[name] = join(i[name], change(frames(i[name])))
}

// recordAt returns where the record of an entry is among frames.
func recordAt(bodies [][]byte, index int64) int {
	return slices.IndexFunc(bodies, func(b []byte) bool {
		r, err := trail.ParseFrame(b)
		return err == nil && r.Index == index
	})
}

// uncover cuts off the hashes of the entries from size on.
func (i image) uncover(size int) {
	for level := 0; size>>level > 0; level += tree.RowHeight {
		name := tree.Dir + "/" + tree.Name(level/tree.RowHeight)
		i[name] = i[name][:size>>level*32]
	}
}

// editRecord rewrites one record in place, with a good checksum.
func (i image) editRecord(index int64, change func(*trail.Record)) {
	for n := range i.segments() {
		i.edit(n, func(bodies [][]byte) [][]byte {
			if k := recordAt(bodies, index); k >= 0 {
				r, _ := trail.ParseFrame(bodies[k])
				r.Entry, r.Erasable = bytes.Clone(r.Entry), bytes.Clone(r.Erasable)
				change(&r)
				bodies[k] = r.AppendFrame(nil)
			}
			return bodies
		})
	}
}

// checkDir verifies a directory with the ledger's key.
func checkDir(t testing.TB, dir string, o verify.Options) *verify.Report {
	t.Helper()
	r, err := verify.Dir(context.Background(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// describe writes findings as "kind index", one a line.
func describe(r *verify.Report) string {
	var b strings.Builder
	for _, f := range r.Findings {
		fmt.Fprintf(&b, "%s %d\t%s: %s\n", f.Kind, f.Index, f.Where, f.Message)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "and %d more\n", r.Omitted)
	}
	return b.String()
}
