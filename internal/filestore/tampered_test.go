package filestore_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/tree"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A plank is a frame's body and the file it stands in.
type plank struct {
	name string
	body []byte
}

// planks returns the log's frames, and where the record of each entry is.
func (s *sealed) planks() (list []plank, at []int) {
	for _, name := range s.files.segments() {
		for _, body := range bodies(s.files[name]) {
			if body[0] == trail.FrameRecord {
				at = append(at, len(list))
			}
			list = append(list, plank{name, body})
		}
	}
	return list, at
}

// rebuilt returns the segments that differ once the log has these frames. They
// keep their names and headers.
func (s *sealed) rebuilt(list []plank) image {
	frames := map[string][][]byte{}
	for _, p := range list {
		frames[p.name] = append(frames[p.name], p.body)
	}
	changed := image{}
	for _, name := range s.files.segments() {
		base, _ := seglog.SegmentBase(strings.TrimPrefix(name, trail.LogDir+"/"))
		if data := build(int64(base), frames[name]); !bytes.Equal(data, s.files[name]) {
			changed[name] = data
		}
	}
	return changed
}

// renumbered gives records from the one at a place on the numbers and the chain
// values that they must have where they stand.
func renumbered(list []plank, from int) []plank {
	list = slices.Clone(list)
	var chain trail.Hash
	next := int64(0)
	for i, p := range list {
		r, err := trail.ParseFrame(p.body)
		if err != nil {
			continue
		}
		if i >= from {
			r.Index, r.Chain = next, trail.Link(chain, r.Entry)
			list[i].body = r.AppendFrame(nil)
		}
		chain = r.Chain
		next++
	}
	return list
}

// rows returns the files of the tree over the entries of the log.
func rows(list []plank) image {
	files := image{}
	var t trail.Tree
	for _, p := range list {
		if r, err := trail.ParseFrame(p.body); err == nil {
			t.Append(trail.LeafHash(r.Entry), func(level int, _ int64, h trail.Hash) {
				if level%tree.RowHeight == 0 {
					name := tree.Dir + "/" + tree.Name(level/tree.RowHeight)
					files[name] = append(files[name], h[:]...)
				}
			})
		}
	}
	return files
}

// tipOf returns a tip record.
func tipOf(checkpoint []byte) []byte {
	return append(bytes.Clone(checkpoint), make([]byte, trail.TipSize-len(checkpoint))...)
}

// pool returns the first entry of the pool that an entry is in, and the one
// behind it.
func (s *sealed) pool(index int64) (first, end int64) {
	i, _ := slices.BinarySearch(s.ends, index+1)
	if i > 0 {
		first = s.ends[i-1]
	}
	return first, s.ends[i]
}

// notes returns the signed checkpoints, in order, with the place behind each.
func notes(list []plank) (texts [][]byte, behind []int) {
	for i, p := range list {
		if p.body[0] == trail.FrameCheckpoint {
			texts, behind = append(texts, p.body[1:]), append(behind, i+1)
		}
	}
	return texts, behind
}

// sample returns all of n numbers or, where that would take too long, some.
func sample(rng *mathrand.Rand, n int) []int {
	list := rng.Perm(n)
	if !allBits {
		list = list[:max(1, n/(4*flipStride))]
	}
	return list
}

func TestEveryRecordThatIsDeletedDoubledOrSwappedIsFound(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	s := newSealed(t, seed)
	list, at := s.planks()
	size := int(s.size)
	far := mathrand.New(mathrand.NewPCG(seed, 4)).Perm(size)
	todo := sample(mathrand.New(mathrand.NewPCG(seed, 5)), size)
	s.each(t, len(todo), func(w *workshop, n int) {
		i := todo[n]
		is := func(kind verify.Kind, index int) finding { return finding{kind, int64(index), ""} }
		without := slices.Delete(slices.Clone(list), at[i], at[i]+1)
		w.expect(fmt.Sprintf("entry %d is deleted", i), s.rebuilt(without), is(verify.Missing, i))
		twice := slices.Insert(slices.Clone(list), at[i], list[at[i]])
		w.expect(fmt.Sprintf("entry %d is doubled", i), s.rebuilt(twice), is(verify.Reordered, i))
		for _, j := range []int{(i + 1) % size, far[i]} {
			if i == j {
				continue
			}
			swapped := slices.Clone(list)
			swapped[at[i]].body, swapped[at[j]].body = list[at[j]].body, list[at[i]].body
			w.expect(fmt.Sprintf("entries %d and %d are swapped", i, j), s.rebuilt(swapped), is(verify.Reordered, i), is(verify.Reordered, j))
			w.expect(fmt.Sprintf("entries %d and %d are swapped, numbers and chain made anew", i, j), s.rebuilt(renumbered(swapped, 0)),
				is(verify.Reordered, i), is(verify.Reordered, j))
		}

		// Who makes numbers, chain and even the tree's hashes anew is found
		// where the signed checkpoints no longer fit: in the entry's pool.
		first, end := s.pool(int64(i))
		// The checkpoint behind a pool is named by the last entry before it.
		for what, changed := range map[string][]plank{"deleted": without, "doubled": twice} {
			changed = renumbered(changed, 0)
			r := w.verify(s.rebuilt(changed))
			if k := slices.IndexFunc(r.Findings, func(f verify.Finding) bool { return f.Index >= 0 }); k < 0 || r.Findings[k].Index < int64(i)-1 || r.Findings[k].Index > int64(i)+1 {
				t.Errorf("entry %d is %s, numbers and chain made anew: %+v", i, what, r.Findings[:min(4, len(r.Findings))])
			}
			both := s.rebuilt(changed)
			for name, data := range rows(changed) {
				both[name] = data
			}
			r = w.verify(both)
			if k := slices.IndexFunc(r.Findings, func(f verify.Finding) bool { return f.Index >= 0 }); k < 0 || r.Findings[k].Index < first-1 || r.Findings[k].Index > end {
				t.Errorf("entry %d of the pool from %d to %d is %s, and all but signatures made anew: %+v", i, first, end, what, r.Findings[:min(4, len(r.Findings))])
			}
		}
	})
}

func TestATailThatIsCutAtAnyRecordIsFound(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	s := newSealed(t, seed)
	list, at := s.planks()
	texts, behind := notes(list)
	newest := texts[len(texts)-1]
	cut := func(n int) image {
		changed := s.rebuilt(list[:n])
		for name, data := range changed {
			if len(data) == int(seglog.FirstOffset) {
				changed[name] = nil
			}
		}
		return changed
	}
	todo := sample(mathrand.New(mathrand.NewPCG(seed, 6)), int(s.size))
	s.each(t, len(todo), func(w *workshop, n int) {
		i := int64(todo[n])
		w.expect(fmt.Sprintf("all from entry %d on is cut", i), cut(at[i]), finding{verify.CutTail, i, ""})
		if first, _ := s.pool(i); first > 0 {
			// The tamperer puts back all that tells of more. What remains is the
			// ledger as it once was, and only a checkpoint that was kept tells.
			k, _ := slices.BinarySearch(s.ends, first)
			older := cut(behind[k])
			older[trail.TipFile] = tipOf(texts[k])
			files := rows(list[:behind[k]])
			for row := range tree.Rows {
				name := tree.Dir + "/" + tree.Name(row)
				if s.files[name] != nil {
					older[name] = files[name]
				}
			}
			if r := w.verify(older, texts[0]); !r.OK() {
				t.Errorf("the ledger as it was with %d entries: %+v", first, r.Findings)
			}
			w.compare(fmt.Sprintf("the ledger of %d entries is brought back", first), w.verify(older, newest),
				[]finding{{verify.RolledBack, first, "earlier checkpoint 1"}})
		}
	})
}

func TestSegmentsThatAreSwappedRemovedOrCopiedAreFound(t *testing.T) {
	s := newSealed(t, 1)
	names := s.files.segments()
	base := func(i int) int64 {
		n, _ := seglog.SegmentBase(strings.TrimPrefix(names[i], trail.LogDir+"/"))
		return int64(n)
	}
	s.each(t, len(names), func(w *workshop, i int) {
		kind := verify.Missing
		if i == len(names)-1 {
			kind = verify.CutTail
		}
		w.expect(names[i]+" is removed", image{names[i]: nil}, finding{kind, base(i), ""})
		w.expect(names[i]+" is copied", image{trail.LogDir + "/" + seglog.SegmentName(5000): s.files[names[i]]},
			finding{verify.Reordered, base(i), ""}, finding{verify.Reordered, base(i), ""})
		w.expect(names[i]+" is renamed", image{names[i]: nil, trail.LogDir + "/" + seglog.SegmentName(5000): s.files[names[i]]},
			finding{verify.Reordered, base(i), ""})
		for j := range i {
			if !allBits && j < i-1 && j%8 != i%8 {
				continue
			}
			w.expect(names[i]+" and "+names[j]+" are swapped", image{names[i]: s.files[names[j]], names[j]: s.files[names[i]]},
				finding{verify.Reordered, base(i), ""}, finding{verify.Reordered, base(j), ""})
		}
	})
}

// resigned makes the ledger anew from an entry on, with everything that whoever
// holds a signing key can make.
func (s *sealed) resigned(t *testing.T, from int64, signer note.Signer, change func(r *trail.Record)) image {
	t.Helper()
	list, at := s.planks()
	r, err := trail.ParseFrame(bytes.Clone(list[at[from]].body))
	if err != nil {
		t.Fatal(err)
	}
	change(&r)
	list[at[from]].body = r.AppendFrame(nil)
	list = renumbered(list, at[from])
	var newest []byte
	var grown trail.Tree
	for i, p := range list {
		if r, err := trail.ParseFrame(p.body); err == nil {
			grown.Append(trail.LeafHash(r.Entry), nil)
		} else if grown.Size() > from {
			c, err := trail.SignCheckpoint(signer.Name(), grown.Size(), grown.Root(), signer)
			if err != nil {
				t.Fatal(err)
			}
			newest = c.Note
			list[i].body = append([]byte{trail.FrameCheckpoint}, c.Note...)
		}
	}
	changed := s.rebuilt(list)
	for name, data := range rows(list) {
		changed[name] = data
	}
	changed[trail.TipFile] = tipOf(newest)
	return changed
}

func TestAForkThatIsSignedWithTheRightKeyIsFound(t *testing.T) {
	s := newSealed(t, 2)
	list, _ := s.planks()
	texts, _ := notes(list)
	todo := sample(mathrand.New(mathrand.NewPCG(2, 7)), int(s.size)-1)
	if !allBits {
		todo = todo[:max(1, len(todo)/4)]
	}
	s.each(t, len(todo), func(w *workshop, n int) {
		i := int64(todo[n]) + 1
		fork := s.resigned(t, i, s.bed.Signer, func(r *trail.Record) {
			r.Entry = bytes.Replace(r.Entry, []byte(`"controller"`), []byte(`"cuntroller"`), 1)
		})
		if r := w.verify(fork); !r.OK() {
			t.Errorf("a fork at %d agrees with itself: %+v", i, r.Findings)
		}
		w.compare(fmt.Sprintf("a fork at %d against the newest checkpoint", i), w.verify(fork, texts[len(texts)-1]),
			[]finding{{verify.Forked, 0, "earlier checkpoint 1"}})
		// One that was kept from before each of them tells where it begins.
		first, end := s.pool(i)
		k, _ := slices.BinarySearch(s.ends, end)
		w.compare(fmt.Sprintf("a fork at %d against two", i), w.verify(fork, texts[max(k-1, 0)], texts[k]),
			[]finding{{verify.Forked, first, "earlier checkpoint 2"}})
	})
}

func TestKeysThatAreExchangedAreFound(t *testing.T) {
	s := newSealed(t, 3)
	other := storetest.NewBed(t, nil)
	forged := s.resigned(t, 0, other.Signer, func(r *trail.Record) {
		r.Entry = bytes.ReplaceAll(r.Entry, []byte(s.bed.VerifierKey), []byte(other.VerifierKey))
	})
	forged[trail.VKeyFile] = []byte(other.VerifierKey + "\n")
	w := newWorkshop(t, s.files, s.bed.Verifier)
	w.expect("another key signs everything", forged,
		finding{verify.WrongKey, -1, trail.TipFile}, finding{verify.WrongKey, -1, trail.VKeyFile + ": line 1"}, finding{verify.WrongKey, 0, ""}, finding{verify.WrongKey, 0, ""})
	w.expect("the key file names another", image{trail.VKeyFile: forged[trail.VKeyFile]}, finding{verify.WrongKey, -1, trail.VKeyFile + ": line 1"})
	w.o.Keys = nil
	if r := w.verify(forged); r.Authenticated {
		t.Errorf("a ledger with a key of its own is taken for %+v", r)
	}
}

// TestEveryBitThatIsChangedUnderAGoodChecksumIsFound changes bits within
// records and gives the frames good checksums again.
func TestEveryBitThatIsChangedUnderAGoodChecksumIsFound(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	s := newSealed(t, seed)
	rng := mathrand.New(mathrand.NewPCG(seed, 8))
	list, at := s.planks()
	const chain, salt, length, entry = 9, 41, 57, 61 // where parts of a record begin
	lists, runs := make([][]flip, len(at)), 0
	for i := range at {
		for _, f := range flips(rng, len(list[at[i]].body), 4*flipStride) {
			if f.byte >= chain && (f.byte < length || f.byte >= entry) {
				lists[i] = append(lists[i], f)
			}
		}
		runs = max(runs, len(lists[i]))
	}
	// One record of three is changed at once, so that each has a sound one on
	// either side.
	s.each(t, 3*runs, func(w *workshop, run int) {
		forged := slices.Clone(list)
		var want []finding
		for i := run % 3; i < len(at); i += 3 {
			if run/3 >= len(lists[i]) {
				continue
			}
			f := lists[i][run/3]
			body := bytes.Clone(list[at[i]].body)
			body[f.byte] ^= 1 << f.bit
			forged[at[i]].body = body
			kind := verify.Changed
			if f.byte >= salt && f.byte < length || f.byte >= entry+int(binary.LittleEndian.Uint32(body[length:])) {
				kind = verify.DetailsMismatch
			}
			want = append(want, finding{kind, int64(i), ""})
		}
		w.expect(fmt.Sprintf("run %d", run), s.rebuilt(forged), want...)
	})
	// Kind, number and length concern how the record lies there, and change
	// what else is found: one at a time, whatever is found, the entry is named.
	heads := sample(rng, len(at))
	s.each(t, len(heads), func(w *workshop, n int) {
		i := heads[n]
		rng := mathrand.New(mathrand.NewPCG(seed, uint64(100+i)))
		for _, f := range flips(rng, 1+8+4, 4) {
			if f.byte >= chain {
				f.byte += length - chain
			}
			forged := slices.Clone(list)
			forged[at[i]].body = bytes.Clone(list[at[i]].body)
			forged[at[i]].body[f.byte] ^= 1 << f.bit
			r := w.verify(s.rebuilt(forged))
			if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Index == int64(i) }) {
				t.Errorf("bit %d of byte %d of record %d: %+v", f.bit, f.byte, i, r.Findings[:min(3, len(r.Findings))])
			}
		}
	})
}
