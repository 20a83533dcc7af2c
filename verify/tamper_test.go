package verify_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// found is what a finding must be.
type found struct {
	kind  verify.Kind
	index int64
}

func findings(r *verify.Report) []found {
	var list []found
	for _, f := range r.Findings {
		list = append(list, found{f.Kind, f.Index})
	}
	return list
}

// swapFrames swaps the records of two entries within one segment, frames and all.
func swapFrames(i image, segment int, a, b int64) {
	i.edit(segment, func(bodies [][]byte) [][]byte {
		x, y := recordAt(bodies, a), recordAt(bodies, b)
		bodies[x], bodies[y] = bodies[y], bodies[x]
		return bodies
	})
}

// alter changes a word of an entry and leaves its length.
func alter(r *trail.Record) {
	r.Entry = bytes.Replace(r.Entry, []byte(`"controller"`), []byte(`"cuntroller"`), 1)
}

// rechain makes the chain values anew from an entry on, within all segments.
func rechain(i image, from int64) {
	var chain trail.Hash
	for n := range i.segments() {
		i.edit(n, func(bodies [][]byte) [][]byte {
			for k, b := range bodies {
				r, err := trail.ParseFrame(b)
				if err != nil {
					continue
				}
				if r.Index >= from {
					r.Chain = trail.Link(chain, r.Entry)
					bodies[k] = r.AppendFrame(nil)
				}
				chain = r.Chain
			}
			return bodies
		})
	}
}

// The ledger of the table: entries 0 to 599 in three segments, of 10, 290 and
// 300 entries; tiles for the first 512. Pools end at 1, 4, 10, 20, 30, 300,
// 301, 310, 400, 590 and 600.
var tablePools = []int{1, 3, 6, 0, 10, 10, 270, 0, 1, 9, 90, 190, 10}

func TestEveryTamperingIsNamed(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 1, tablePools...)
	whole := l.image(t)
	seg := whole.segments()
	other := newKey(t, origin, 2)
	forged := func(t *testing.T, k key, change func(*ledger)) *ledger {
		f := newLedger(t, 1, tablePools...)
		f.key = k
		change(f)
		f.resign(t)
		return f
	}
	rewrite := func(f *ledger) { alter(&f.records[33]) }
	older := newLedger(t, 1, tablePools[:len(tablePools)-2]...)
	type table []struct {
		name   string
		tamper func(t *testing.T, i image)
		want   []found
	}
	tests := table{
		{"an entry is changed", func(t *testing.T, i image) { i.editRecord(5, alter) },
			[]found{{verify.Changed, 5}}},
		{"an entry that no hash covers is changed", func(t *testing.T, i image) { i.uncover(512); i.editRecord(550, alter) },
			[]found{{verify.Changed, 550}}},
		{"the last entry of a pool is changed", func(t *testing.T, i image) { i.editRecord(589, alter) },
			[]found{{verify.Changed, 589}}},
		{"the newest entry is changed", func(t *testing.T, i image) { i.editRecord(599, alter) },
			[]found{{verify.Changed, 599}}},
		{"the first entry is changed", func(t *testing.T, i image) {
			i.editRecord(0, func(r *trail.Record) { r.Entry = bytes.Replace(r.Entry, []byte("graven"), []byte("craven"), 1) })
			i.editRecord(0, func(r *trail.Record) { r.Entry = bytes.Replace(r.Entry, []byte(`"c"`), []byte(`"d"`), 1) })
		}, []found{{verify.Changed, 0}}},
		{"several entries are changed", func(t *testing.T, i image) {
			for _, n := range []int64{3, 4, 100, 299, 511, 512} {
				i.editRecord(n, alter)
			}
		}, []found{{verify.Changed, 3}, {verify.Changed, 4}, {verify.Changed, 100}, {verify.Changed, 299}, {verify.Changed, 511}, {verify.Changed, 512}}},
		{"an entry and its chain value are changed", func(t *testing.T, i image) {
			i.editRecord(40, func(r *trail.Record) { alter(r); r.Chain = trail.Link(l.records[39].Chain, r.Entry) })
		}, []found{{verify.Changed, 40}}},
		{"an entry is changed and the whole chain made anew", func(t *testing.T, i image) { i.editRecord(40, alter); rechain(i, 40) },
			[]found{{verify.Changed, 40}}},
		{"an entry no hash covers is changed and the chain made anew: the pool is known", func(t *testing.T, i image) { i.uncover(512); i.editRecord(595, alter); rechain(i, 595) },
			[]found{{verify.Changed, 590}}},
		{"an entry at a pool's end, which no hash covers, and its chain value are changed", func(t *testing.T, i image) {
			i.uncover(512)
			i.editRecord(589, func(r *trail.Record) { alter(r); r.Chain = trail.Link(l.records[588].Chain, r.Entry) })
		}, []found{{verify.Changed, 589}}},
		{"a chain value is changed", func(t *testing.T, i image) { i.editRecord(25, func(r *trail.Record) { r.Chain[3] ^= 1 }) },
			[]found{{verify.Changed, 25}}},
		{"the first chain value is changed", func(t *testing.T, i image) { i.editRecord(0, func(r *trail.Record) { r.Chain[3] ^= 1 }) },
			[]found{{verify.Changed, 0}}},
		{"a record has the number of an entry that no ledger has", func(t *testing.T, i image) {
			i.editRecord(25, func(r *trail.Record) { r.Index = 25 | 1<<62 })
		}, []found{{verify.Changed, 25}}},
		{"a chain value at the end of a segment is changed", func(t *testing.T, i image) { i.editRecord(9, func(r *trail.Record) { r.Chain[3] ^= 1 }) },
			[]found{{verify.Changed, 9}}},
		{"the newest chain value is changed", func(t *testing.T, i image) { i.editRecord(599, func(r *trail.Record) { r.Chain[3] ^= 1 }) },
			[]found{{verify.Changed, 599}}},
		{"details are changed", func(t *testing.T, i image) {
			i.editRecord(8, func(r *trail.Record) { r.Erasable = bytes.Replace(r.Erasable, []byte(`"n":8`), []byte(`"n":9`), 1) })
		}, []found{{verify.DetailsMismatch, 8}}},
		{"a salt is changed", func(t *testing.T, i image) { i.editRecord(550, func(r *trail.Record) { r.Salt[15]++ }) },
			[]found{{verify.DetailsMismatch, 550}}},
		{"an error message is changed", func(t *testing.T, i image) {
			i.editRecord(9, func(r *trail.Record) { r.Erasable = bytes.Replace(r.Erasable, []byte("failed"), []byte("worked"), 1) })
		}, []found{{verify.DetailsMismatch, 9}}},
		{"an error message is removed", func(t *testing.T, i image) {
			i.editRecord(9, func(r *trail.Record) {
				r.Erasable = append(r.Erasable[:bytes.Index(r.Erasable, []byte(`,"message":`))], r.Erasable[bytes.Index(r.Erasable, []byte(`,"original":`)):]...)
			})
		}, []found{{verify.DetailsMismatch, 9}}},
		{"an original spelling is changed", func(t *testing.T, i image) {
			i.editRecord(10, func(r *trail.Record) { r.Erasable = bytes.Replace(r.Erasable, []byte("warning"), []byte("warnung"), 1) })
		}, []found{{verify.DetailsMismatch, 10}}},
		{"an original spelling is added", func(t *testing.T, i image) {
			i.editRecord(11, func(r *trail.Record) {
				r.Erasable = append(r.Erasable[:len(r.Erasable)-1], `,"original":{"severity":"x"}}`...)
			})
		}, []found{{verify.DetailsMismatch, 11}}},
		{"details get a space", func(t *testing.T, i image) {
			i.editRecord(12, func(r *trail.Record) { r.Erasable = bytes.Replace(r.Erasable, []byte(`"n":`), []byte(`"n": `), 1) })
		}, []found{{verify.DetailsMismatch, 12}}},
		{"details lose a comma", func(t *testing.T, i image) {
			i.editRecord(9, func(r *trail.Record) {
				r.Erasable = bytes.Replace(r.Erasable, []byte(`},"message"`), []byte(`}"message"`), 1)
			})
		}, []found{{verify.DetailsMismatch, 9}}},
		{"details and their salt are wiped", func(t *testing.T, i image) {
			for _, n := range []int64{7, 599} {
				i.editRecord(n, func(r *trail.Record) { r.Salt, r.Erasable = event.Salt{}, nil })
			}
		}, []found{{verify.DetailsMismatch, 7}, {verify.DetailsMismatch, 599}}},
		{"details are wiped and their salt is not", func(t *testing.T, i image) { i.editRecord(7, func(r *trail.Record) { r.Erasable = nil }) },
			[]found{{verify.DetailsMismatch, 7}}},
		{"an entry and its details are changed", func(t *testing.T, i image) {
			i.editRecord(8, func(r *trail.Record) { alter(r); r.Erasable = []byte(`{"details":{"n":9}}`) })
		}, []found{{verify.Changed, 8}}},

		{"a record is removed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { return slices.Delete(b, recordAt(b, 30), recordAt(b, 30)+1) })
		}, []found{{verify.Missing, 30}}},
		{"records that no hash covers are removed", func(t *testing.T, i image) {
			i.uncover(512)
			i.edit(2, func(b [][]byte) [][]byte { return slices.Delete(b, recordAt(b, 520), recordAt(b, 530)) })
		}, []found{{verify.Missing, 520}}},
		{"the first record of a segment is removed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { return b[1:] })
		}, []found{{verify.Missing, 10}}},
		{"the first record is removed", func(t *testing.T, i image) {
			i.edit(0, func(b [][]byte) [][]byte { return b[1:] })
		}, []found{{verify.Missing, 0}}},
		{"records are removed in two places and another changed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { return slices.Delete(b, recordAt(b, 30), recordAt(b, 35)) })
			i.edit(2, func(b [][]byte) [][]byte { return slices.Delete(b, recordAt(b, 320), recordAt(b, 321)) })
			i.editRecord(200, alter)
		}, []found{{verify.Missing, 30}, {verify.Changed, 200}, {verify.Missing, 320}}},
		{"a segment is removed", func(t *testing.T, i image) { delete(i, seg[1]) },
			[]found{{verify.Missing, 10}}},
		{"the first segment is removed", func(t *testing.T, i image) { delete(i, seg[0]) },
			[]found{{verify.Missing, 0}}},
		{"a segment is renamed", func(t *testing.T, i image) {
			i["log/"+seglog.SegmentName(11)] = i[seg[1]]
			delete(i, seg[1])
		}, []found{{verify.Reordered, 10}}},
		{"a segment is renamed to stand behind the others", func(t *testing.T, i image) {
			i["log/"+seglog.SegmentName(1000)] = i[seg[1]]
			delete(i, seg[1])
		}, []found{{verify.Reordered, 10}}},
		{"a segment is copied", func(t *testing.T, i image) { i["log/"+seglog.SegmentName(1000)] = bytes.Clone(i[seg[1]]) },
			[]found{{verify.Reordered, 10}, {verify.Reordered, 10}}},
		{"two segments are swapped", func(t *testing.T, i image) { i[seg[0]], i[seg[1]] = i[seg[1]], i[seg[0]] },
			[]found{{verify.Reordered, 0}, {verify.Reordered, 10}}},

		{"neighbours are swapped", func(t *testing.T, i image) { swapFrames(i, 1, 25, 26) },
			[]found{{verify.Reordered, 25}, {verify.Reordered, 26}}},
		{"records far apart are swapped", func(t *testing.T, i image) { swapFrames(i, 1, 12, 280) },
			[]found{{verify.Reordered, 12}, {verify.Reordered, 280}}},
		{"records two apart are swapped", func(t *testing.T, i image) { swapFrames(i, 2, 595, 597) },
			[]found{{verify.Reordered, 595}, {verify.Reordered, 597}}},
		{"neighbours in different pools are swapped", func(t *testing.T, i image) { swapFrames(i, 1, 19, 20) },
			[]found{{verify.Reordered, 19}, {verify.Reordered, 20}}},
		{"records are swapped and renumbered", func(t *testing.T, i image) {
			swapFrames(i, 1, 120, 123)
			i.edit(1, func(b [][]byte) [][]byte {
				x, y := recordAt(b, 120), recordAt(b, 123)
				binary.LittleEndian.PutUint64(b[x][1:], 123)
				binary.LittleEndian.PutUint64(b[y][1:], 120)
				return b
			})
		}, []found{{verify.Reordered, 120}, {verify.Reordered, 123}}},
		{"entries are swapped under the old numbers and chain values", func(t *testing.T, i image) {
			i.editRecord(121, func(r *trail.Record) {
				r.Entry, r.Salt, r.Erasable = l.records[122].Entry, l.records[122].Salt, l.records[122].Erasable
			})
			i.editRecord(122, func(r *trail.Record) {
				r.Entry, r.Salt, r.Erasable = l.records[121].Entry, l.records[121].Salt, l.records[121].Erasable
			})
		}, []found{{verify.Reordered, 121}, {verify.Reordered, 122}}},
		{"entries are swapped and the chain made anew", func(t *testing.T, i image) {
			i.editRecord(100, func(r *trail.Record) {
				r.Entry, r.Salt, r.Erasable = l.records[300].Entry, l.records[300].Salt, l.records[300].Erasable
			})
			i.editRecord(300, func(r *trail.Record) {
				r.Entry, r.Salt, r.Erasable = l.records[100].Entry, l.records[100].Salt, l.records[100].Erasable
			})
			rechain(i, 100)
		}, []found{{verify.Reordered, 100}, {verify.Reordered, 300}}},
		{"a record stands twice", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { return slices.Insert(b, 20, bytes.Clone(b[recordAt(b, 50)])) })
		}, []found{{verify.Reordered, 50}}},
		{"a record stands twice in a row", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { return slices.Insert(b, recordAt(b, 50), bytes.Clone(b[recordAt(b, 50)])) })
		}, []found{{verify.Reordered, 50}}},
		{"a record takes another's place", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { b[recordAt(b, 50)] = bytes.Clone(b[recordAt(b, 60)]); return b })
		}, []found{{verify.Missing, 50}, {verify.Reordered, 60}}},
		{"a block of records is moved", func(t *testing.T, i image) {
			i.edit(2, func(b [][]byte) [][]byte {
				x, y := recordAt(b, 520), recordAt(b, 525)
				block := slices.Clone(b[x:y])
				return slices.Insert(slices.Delete(b, x, y), recordAt(b, 550), block...)
			})
		}, []found{{verify.Reordered, 520}, {verify.Reordered, 525}}},

		{"a checkpoint's signature is changed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte {
				k := recordAt(b, 20) - 1
				b[k] = append(b[k][:len(b[k])-6], "AAA=\n"...)
				b[k][len(b[k])-7] ^= 1
				return b
			})
		}, []found{{verify.BadSignature, 19}}},
		{"the unused bits of a signature are changed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte {
				k := recordAt(b, 20) - 1
				b[k][len(b[k])-3]++ // before "=\n"
				return b
			})
		}, []found{{verify.BadSignature, 19}}},
		{"a checkpoint's root is changed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte {
				k := recordAt(b, 20) - 1
				c := &b[k][len(origin)+6]
				*c = map[bool]byte{true: 'A', false: 'B'}[*c != 'A']
				return b
			})
		}, []found{{verify.BadSignature, 19}}},
		{"a checkpoint's size is changed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte {
				k := recordAt(b, 20) - 1
				b[k] = bytes.Replace(b[k], []byte("\n20\n"), []byte("\n21\n"), 1)
				return b
			})
		}, []found{{verify.BadSignature, 19}}},
		{"a checkpoint is unreadable", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { b[recordAt(b, 20)-1] = []byte("\x02nothing"); return b })
		}, []found{{verify.BadSignature, 19}}},
		{"a checkpoint is replaced by an older one", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { b[recordAt(b, 30)-1] = bytes.Clone(b[recordAt(b, 20)-1]); return b })
		}, []found{{verify.Reordered, 29}}},
		{"a segment's last checkpoint is removed", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { return b[:len(b)-1] })
		}, []found{{verify.Missing, 299}}},
		{"a frame of no known kind is added", func(t *testing.T, i image) {
			i.edit(1, func(b [][]byte) [][]byte { return slices.Insert(b, recordAt(b, 25), []byte("\x09what")) })
		}, []found{{verify.BadSignature, 24}}},

		{"the log is cut behind a pool", func(t *testing.T, i image) {
			i.edit(2, func(b [][]byte) [][]byte { return b[:recordAt(b, 590)] })
		}, []found{{verify.CutTail, 590}}},
		{"the log is cut behind a pool, and the tip rolled back less far", func(t *testing.T, i image) {
			i.edit(2, func(b [][]byte) [][]byte { return b[:recordAt(b, 310)] })
			i["tip"] = older.image(t)["tip"]
		}, []found{{verify.CutTail, 310}}},
		{"the log is cut and the tip rolled back: a tile knows", func(t *testing.T, i image) {
			i.edit(2, func(b [][]byte) [][]byte { return b[:recordAt(b, 400)] })
			i["tip"] = append(bytes.Clone(l.pools[8].Note), make([]byte, trail.TipSize-len(l.pools[8].Note))...)
		}, []found{{verify.CutTail, 400}}},
		{"the log is cut within a record", func(t *testing.T, i image) { i[seg[2]] = i[seg[2]][:len(i[seg[2]])-500] },
			[]found{{verify.CutTail, 599}}},
		{"the newest checkpoint is cut off", func(t *testing.T, i image) {
			i.edit(2, func(b [][]byte) [][]byte { return b[:len(b)-1] })
		}, []found{{verify.CutTail, 599}}},
		{"the last byte is cut off", func(t *testing.T, i image) { i[seg[2]] = i[seg[2]][:len(i[seg[2]])-1] },
			[]found{{verify.BadSignature, 599}}},
		{"the last segment is removed", func(t *testing.T, i image) { delete(i, seg[2]) },
			[]found{{verify.CutTail, 300}}},
		{"the whole log is removed", func(t *testing.T, i image) {
			for _, s := range seg {
				delete(i, s)
			}
			i["log/stray"] = nil
		}, []found{{verify.CutTail, 0}}},
		{"the end is overwritten with zeros", func(t *testing.T, i image) {
			s := i[seg[2]]
			clear(s[bytes.Index(s, l.records[590].Entry)-69:])
		}, []found{{verify.CutTail, 590}}},
		{"zeros overwrite records in the middle", func(t *testing.T, i image) {
			s := i[seg[2]]
			clear(s[bytes.Index(s, l.records[520].Entry)-69 : bytes.Index(s, l.records[525].Entry)-69])
		}, []found{{verify.Changed, 520}}},
		{"garbage overwrites the end", func(t *testing.T, i image) {
			s := i[seg[2]]
			s = s[bytes.Index(s, l.records[595].Entry)-69:]
			for k := range s {
				s[k] = byte(k*7 | 1)
			}
		}, []found{{verify.Changed, 595}}},

		{"a byte of an entry is overwritten", func(t *testing.T, i image) {
			s := i[seg[1]]
			s[bytes.Index(s, l.records[40].Entry)+9] ^= 4
		}, []found{{verify.Changed, 40}}},
		{"bytes of three entries are overwritten", func(t *testing.T, i image) {
			s := i[seg[2]]
			for _, n := range []int{530, 531, 599} {
				s[bytes.Index(s, l.records[n].Entry)+9] ^= 4
			}
		}, []found{{verify.Changed, 530}, {verify.Changed, 531}, {verify.Changed, 599}}},
		{"a checkpoint in the middle is overwritten", func(t *testing.T, i image) {
			s := i[seg[1]]
			s[bytes.Index(s, l.pools[3].Note)+9] ^= 4
		}, []found{{verify.BadSignature, 19}}},
		{"the newest checkpoint is overwritten", func(t *testing.T, i image) {
			s := i[seg[2]]
			s[bytes.Index(s, l.newest().Note)+9] ^= 4
		}, []found{{verify.BadSignature, 599}}},
		{"the last checkpoint of a segment is overwritten", func(t *testing.T, i image) {
			s := i[seg[0]]
			s[bytes.Index(s, l.pools[2].Note)+9] ^= 4
		}, []found{{verify.BadSignature, 9}}},
		{"a segment's header is changed", func(t *testing.T, i image) { i[seg[1]][3] ^= 1 },
			[]found{{verify.Changed, -1}}},
		{"a zero behind the log is changed", func(t *testing.T, i image) {
			i[seg[2]] = append(i[seg[2]], make([]byte, 5000)...)
			i[seg[2]][len(i[seg[2]])-100] = 1
		}, []found{{verify.Changed, -1}}},
		{"a zero right behind the log is changed", func(t *testing.T, i image) {
			i[seg[2]] = append(i[seg[2]], make([]byte, 5000)...)
			i[seg[2]][len(i[seg[2]])-5000] = 1
		}, []found{{verify.Changed, -1}}},
		{"a zero behind a full segment is changed", func(t *testing.T, i image) {
			i[seg[0]] = append(i[seg[0]], make([]byte, 5000)...)
			i[seg[0]][len(i[seg[0]])-5000+4] = 1
		}, []found{{verify.Changed, -1}}},

		{"a hash is changed", func(t *testing.T, i image) { i["tree/00"][32*260] ^= 1 },
			[]found{{verify.TileMismatch, 260}}},
		{"an upper hash is changed", func(t *testing.T, i image) { i["tree/04"][32*2] ^= 1 },
			[]found{{verify.TileMismatch, 32}}},
		{"two runs of hashes are swapped", func(t *testing.T, i image) {
			h := i["tree/00"]
			copy(h, slices.Concat(h[256*32:512*32], h[:256*32]))
		}, []found{{verify.TileMismatch, 0}, {verify.TileMismatch, 256}}},
		{"the hashes are cut", func(t *testing.T, i image) { i["tree/00"] = i["tree/00"][:32*300] },
			[]found{{verify.TileMismatch, 300}}},
		{"the hashes are removed, though upper ones exist", func(t *testing.T, i image) { delete(i, "tree/00") },
			[]found{{verify.TileMismatch, 0}}},
		{"a hash and an entry of the same pool are changed", func(t *testing.T, i image) {
			i["tree/00"][32*44] ^= 1
			i.editRecord(45, alter)
		}, []found{{verify.TileMismatch, 44}, {verify.Changed, 45}}},

		{"the tip is changed", func(t *testing.T, i image) { i["tip"][60] ^= 1 },
			[]found{{verify.BadSignature, -1}}},
		{"the tip's padding is changed", func(t *testing.T, i image) { i["tip"][1000] ^= 1 },
			[]found{{verify.Changed, -1}}},
		{"the tip is cut", func(t *testing.T, i image) { i["tip"] = i["tip"][:1000] },
			[]found{{verify.Changed, -1}}},
		{"the tip is removed", func(t *testing.T, i image) { delete(i, "tip") },
			[]found{{verify.Missing, -1}}},
		{"the tip is another ledger's", func(t *testing.T, i image) {
			i["tip"] = forged(t, other, func(*ledger) {}).image(t)["tip"]
		}, []found{{verify.WrongKey, -1}}},
		{"the tip tells of another history", func(t *testing.T, i image) {
			i["tip"] = forged(t, l.key, rewrite).image(t)["tip"]
		}, []found{{verify.Forked, 0}}},
		{"the key file is changed", func(t *testing.T, i image) { i["keys/ledger.vkey"][30] ^= 1 },
			[]found{{verify.WrongKey, -1}}},
		{"the key file holds another key", func(t *testing.T, i image) { i["keys/ledger.vkey"] = []byte(other.vkey + "\n") },
			[]found{{verify.WrongKey, -1}}},
		{"the ledger is made anew with another key", func(t *testing.T, i image) {
			clear(i)
			for name, data := range forged(t, other, rewrite).image(t) {
				i[name] = data
			}
		}, []found{{verify.WrongKey, -1}, {verify.WrongKey, -1}, {verify.WrongKey, 0}}},
		{"another ledger's entries stand in this one's", func(t *testing.T, i image) {
			f := forged(t, l.key, func(f *ledger) {
				for n := 301; n < 310; n++ {
					alter(&f.records[n])
				}
			})
			i.edit(2, func(b [][]byte) [][]byte {
				from := frames(f.image(t)[seg[2]])
				copy(b[recordAt(b, 301):recordAt(b, 310)-1], from[recordAt(from, 301):recordAt(from, 310)-1])
				return b
			})
		}, []found{{verify.Changed, 301}, {verify.Changed, 302}, {verify.Changed, 303}, {verify.Changed, 304}, {verify.Changed, 305},
			{verify.Changed, 306}, {verify.Changed, 307}, {verify.Changed, 308}, {verify.Changed, 309}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			i := whole.clone()
			tt.tamper(t, i)
			r := checkDir(t, i.write(t), verify.Options{Keys: []note.Verifier{l.key.verifier}})
			if got := findings(r); !slices.Equal(got, tt.want) {
				t.Errorf("want %v, found\n%s", tt.want, describe(r))
			}
			for _, f := range r.Findings {
				if f.Where == "" || f.Message == "" || strings.Contains(f.Message, "%!") {
					t.Errorf("finding without place or message: %+v", f)
				}
			}
		})
	}
}
