package filestore_test

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testdisk"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A sealed ledger is the files of one that the store has written and closed:
// 1,000 events of many sizes, and what the ledger says itself, in pools of 1 to
// 20 and about 50 segments.
type sealed struct {
	bed   *storetest.Bed
	files image
	// frames are what the log's files are made of: headers and frames, in order.
	frames []frame
	// size is the number of entries, ends those under each checkpoint.
	size int64
	ends []int64
}

// An image is the content of a data directory, by name.
type image map[string][]byte

// A frame is a stretch of a segment, and what a change within must be found as.
type frame struct {
	name     string
	at, end  int
	found    finding
	isRecord bool
}

// A finding is what there is to a finding but its message.
type finding struct {
	kind  verify.Kind
	index int64
	where string
}

func newSealed(t *testing.T, seed uint64) *sealed {
	t.Helper()
	dir := filepath.Join(testdisk.MemoryDir(t), "data")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &sealed{bed: newBed(t, dir, filestore.Options{SegmentSize: 24 << 10})}
	rng := mathrand.New(mathrand.NewPCG(seed, 1))
	r := s.bed.Start(t)
	for n := 0; n < 1000; {
		events := make([]*event.Event, min(1+rng.IntN(20), 1000-n))
		for i := range events {
			events[i] = varied(rng, n)
			n++
		}
		r.Append(events...)
	}
	r.Stop()
	s.files = load(t, dir)
	for _, name := range s.files.segments() {
		s.frames = append(s.frames, frame{name, 0, int(seglog.FirstOffset), finding{verify.Changed, -1, name + ": byte 0"}, false})
		index := int64(-1)
		for at, body := range bodies(s.files[name]) {
			r, err := trail.ParseFrame(body)
			f := frame{name, at, at + 8 + len(body), finding{verify.BadSignature, index, fmt.Sprintf("%s: byte %d", name, at)}, err == nil}
			if f.isRecord {
				index = r.Index
				f.found.kind, f.found.index = verify.Changed, index
				s.size = index + 1
			} else {
				s.ends = append(s.ends, index+1)
			}
			s.frames = append(s.frames, f)
		}
	}
	if n := len(s.files.segments()); n < 20 || s.size < 1001 || len(s.ends) < 50 {
		t.Fatalf("%d entries in %d segments and %d pools", s.size, n, len(s.ends))
	}
	return s
}

// varied returns event n, with more or less to it.
func varied(rng *mathrand.Rand, n int) *event.Event {
	e := storetest.Event(n)
	details := map[string]any{"number": n}
	for i := range rng.IntN(5) {
		details[fmt.Sprint("key", i)] = strings.Repeat("x", rng.IntN(1+n%150))
	}
	if n%3 == 0 {
		e.Error = event.Failure{Code: "E", Message: strings.Repeat("it failed ", rng.IntN(10))}
	}
	if n%7 == 0 {
		e.Severity = "warning" // whose spelling is kept
	}
	if err := e.SetDetails(details); err != nil {
		panic(err)
	}
	return e
}

// load reads the files of a data directory.
func load(t *testing.T, dir string) image {
	t.Helper()
	i := image{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err == nil {
			i[filepath.ToSlash(name)], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// bodies returns the bodies of a segment's frames, by where the frames begin.
func bodies(data []byte) func(yield func(int, []byte) bool) {
	return func(yield func(int, []byte) bool) {
		for at := int(seglog.FirstOffset); at+8 <= len(data); {
			n := int(binary.LittleEndian.Uint32(data[at:]))
			if n == 0 || !yield(at, data[at+8:at+8+n]) {
				return
			}
			at += 8 + n
		}
	}
}

// build makes a segment of frames, with good checksums.
func build(base int64, frames [][]byte) []byte {
	out := seglog.Header(uint64(base))
	for _, body := range frames {
		out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
		out = append(out, body...)
	}
	return out
}

func (i image) segments() []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(i)), func(name string) bool { return !strings.HasSuffix(name, ".seg") })
}

// A workshop is a directory in memory that is verified again and again with
// changed files.
type workshop struct {
	t     *testing.T
	dir   string
	whole image
	dirty map[string]bool
	o     verify.Options
}

// withoutIndex keeps the index, which package verify does not read.
func withoutIndex(name string) bool {
	return strings.HasPrefix(name, datadir.IndexFile) || strings.HasPrefix(name, "offsets/")
}

func newWorkshop(t *testing.T, whole image, key note.Verifier) *workshop {
	w := &workshop{t: t, dir: testdisk.MemoryDir(t), whole: image{}, dirty: map[string]bool{}}
	w.o = verify.Options{Keys: []note.Verifier{remembering{key, map[string]bool{}}}, Workers: 1, MaxFindings: 1 << 20}
	for name, data := range whole {
		if !withoutIndex(name) {
			w.whole[name] = data
			w.write(name, data)
		}
	}
	return w
}

// A remembering verifier checks each signature once.
type remembering struct {
	note.Verifier
	known map[string]bool
}

func (r remembering) Verify(msg, sig []byte) bool {
	k := string(msg) + string(sig)
	good, ok := r.known[k]
	if !ok {
		good = r.Verifier.Verify(msg, sig)
		r.known[k] = good
	}
	return good
}

func (w *workshop) write(name string, data []byte) {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	var err error
	if data == nil {
		err = os.RemoveAll(path)
	} else if err = os.WriteFile(path, data, 0o600); os.IsNotExist(err) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.WriteFile(path, data, 0o600)
		}
	}
	if err != nil {
		w.t.Error(err)
	}
}

// verify verifies the ledger with some files changed; nil removes one.
func (w *workshop) verify(changed image, since ...[]byte) *verify.Report {
	for name := range w.dirty {
		if _, ok := changed[name]; !ok {
			w.write(name, w.whole[name])
			delete(w.dirty, name)
		}
	}
	for name, data := range changed {
		w.write(name, data)
		w.dirty[name] = true
	}
	o := w.o
	o.Since = since
	r, err := verify.Dir(w.t.Context(), w.dir, o)
	if err != nil {
		w.t.Errorf("verify: %v", err)
		return &verify.Report{}
	}
	return r
}

// expect verifies, and holds what is found against what is wanted.
func (w *workshop) expect(what string, changed image, want ...finding) {
	w.t.Helper()
	w.compare(what, w.verify(changed), want)
}

func (w *workshop) compare(what string, r *verify.Report, want []finding) {
	w.t.Helper()
	order := func(a, b finding) int {
		return cmp.Or(cmp.Compare(a.index, b.index), strings.Compare(a.where, b.where), strings.Compare(string(a.kind), string(b.kind)))
	}
	names := func(f finding) bool { return f.kind == verify.WrongKey && f.index == 0 }
	var got []finding
	for _, f := range r.Findings {
		// A changed entry 0 does not name the key any more, which is told beside.
		if g := (finding{f.Kind, f.Index, f.Where}); !names(g) || slices.ContainsFunc(want, names) {
			got = append(got, g)
		}
	}
	want = slices.Clone(want)
	slices.SortFunc(got, order)
	slices.SortFunc(want, order)
	same := slices.EqualFunc(got, want, func(g, w finding) bool {
		return g.kind == w.kind && g.index == w.index && (w.where == "" || g.where == w.where)
	})
	if same && r.Omitted == 0 {
		return
	}
	for i := range got {
		if i >= len(want) || got[i] != want[i] {
			w.t.Errorf("%s: finding %d of %d is %v, want %d: %v\n%+v", what, i, len(got), got[i], len(want), want[i:min(len(want), i+1)], r.Findings[max(0, i-2):min(len(r.Findings), i+5)])
			return
		}
	}
	w.t.Errorf("%s: %d findings, want %d, such as %v", what, len(got), len(want), want[len(got)])
}

// each runs fn for the numbers from 0 on, below n, in workshops side by side.
func (s *sealed) each(t *testing.T, n int, fn func(w *workshop, i int)) {
	t.Helper()
	todo := make(chan int)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		w := newWorkshop(t, s.files, s.bed.Verifier)
		workers.Go(func() {
			for i := range todo {
				if !t.Failed() {
					fn(w, i)
				}
			}
		})
	}
	for i := range n {
		todo <- i
	}
	close(todo)
	workers.Wait()
}

// A flip is a bit of a file.
type flip struct {
	byte int
	bit  int
}

// flips returns which bits of n bytes are flipped: all of them in the slow
// tests, else one in each stretch of stride bytes.
func flips(rng *mathrand.Rand, n, stride int) (list []flip) {
	if allBits {
		stride = 1
	}
	for at := 0; at < n; at += stride {
		if allBits {
			for bit := range 8 {
				list = append(list, flip{at, bit})
			}
			continue
		}
		list = append(list, flip{min(n-1, at+rng.IntN(stride)), rng.IntN(8)})
	}
	return list
}

// TestEveryBitOfAThousandSealedEventsIsFound flips every bit of the log. One
// verification for each of eight million bits would take hours, so that in one
// verification a bit of every other frame is flipped, and exactly those frames
// must be named, with kind, entry, file and byte: what is found of one flip
// cannot be owed to another, for no finding names two. That no flip needs the
// others to be found is shown by flips on their own, here of bits taken at
// random, and in package verify of all bits of a smaller ledger.
func TestEveryBitOfAThousandSealedEventsIsFound(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	s := newSealed(t, seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 2))
	lists, runs, total := make([][]flip, len(s.frames)), 0, 0
	for i, f := range s.frames {
		lists[i] = flips(rng, f.end-f.at, flipStride)
		runs = max(runs, len(lists[i]))
		total += len(lists[i])
	}
	s.each(t, 2*runs, func(w *workshop, run int) {
		changed := image{}
		var want []finding
		for i, f := range s.frames {
			if i%2 != run%2 || run/2 >= len(lists[i]) {
				continue
			}
			if changed[f.name] == nil {
				changed[f.name] = bytes.Clone(s.files[f.name])
			}
			bit := lists[i][run/2]
			changed[f.name][f.at+bit.byte] ^= 1 << bit.bit
			want = append(want, f.found)
		}
		w.expect(fmt.Sprintf("run %d", run), changed, want...)
	})
	t.Logf("%d bits of %d frames in %d verifications", total, len(s.frames), 2*runs)
	const alone = 1000 / flipStride
	picks := make([]frame, alone)
	for i := range picks {
		picks[i] = s.frames[rng.IntN(len(s.frames))]
		picks[i].end = picks[i].at + rng.IntN(picks[i].end-picks[i].at)
	}
	s.each(t, alone, func(w *workshop, i int) {
		data := bytes.Clone(s.files[picks[i].name])
		data[picks[i].end] ^= 1 << (i % 8)
		w.expect(fmt.Sprintf("bit %d of byte %d of %s", i%8, picks[i].end, picks[i].name), image{picks[i].name: data}, picks[i].found)
	})
}

func TestEveryBitOfTipKeyAndHashesIsFound(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	s := newSealed(t, seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 3))
	for _, name := range []string{trail.TipFile, trail.VKeyFile} {
		list := flips(rng, len(s.files[name]), 2*flipStride)
		s.each(t, len(list), func(w *workshop, i int) {
			data := bytes.Clone(s.files[name])
			data[list[i].byte] ^= 1 << list[i].bit
			r := w.verify(image{name: data})
			if r.OK() || !strings.HasPrefix(r.Findings[0].Where, name) || r.Findings[0].Index != -1 {
				t.Errorf("bit %d of byte %d of %s: %+v", list[i].bit, list[i].byte, name, r.Findings)
			}
		})
	}
	// Hashes of one file that stand in the same 256 are one finding, so that
	// one bit of each 256 is flipped at once.
	const run = trail.TileWidth * len(trail.Hash{})
	for row := range tree.Rows {
		name := tree.Dir + "/" + tree.Name(row)
		data := s.files[name]
		list := flips(rng, min(len(data), run), 8*flipStride)
		s.each(t, len(list), func(w *workshop, i int) {
			changed := bytes.Clone(data)
			var want []finding
			for at := list[i].byte; at < len(data); at += run {
				changed[at] ^= 1 << list[i].bit
				n := int64(at / len(trail.Hash{}))
				want = append(want, finding{verify.TileMismatch, tree.First(row, n), fmt.Sprintf("%s: byte %d", name, n*int64(len(trail.Hash{})))})
			}
			w.expect(fmt.Sprintf("%s: bit %d of byte %d", name, list[i].bit, list[i].byte), image{name: changed}, want...)
		})
	}
}
