package verify_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// pack writes bodies behind their lengths, as FuzzDir takes them.
func pack(bodies [][]byte) (out []byte) {
	for _, b := range bodies {
		out = binary.LittleEndian.AppendUint16(out, uint16(len(b)))
		out = append(out, b...)
	}
	return out
}

func unpack(data []byte) (bodies [][]byte) {
	for len(data) > 2 {
		n := min(int(binary.LittleEndian.Uint16(data)), len(data)-2)
		if n > 0 {
			bodies = append(bodies, data[2:2+n])
		}
		data = data[2+n:]
	}
	return bodies
}

// FuzzDir verifies directories whose segments hold hostile frames with good
// checksums. Only the frames that were recorded may be found good.
func FuzzDir(f *testing.F) {
	l := newLedger(f, 1, 1, 3, 2)
	i := l.image(f)
	segment, seed := i.segments()[0], []byte(nil)
	good := frames(i[segment])
	seed = pack(good)
	f.Add(seed, i["tip"], i["keys/ledger.vkey"])
	f.Add(pack(good[2:]), []byte{}, []byte{})
	f.Add(pack(append(good[3:], good[:3]...)), i["tip"], []byte("x\n"))
	gone := i.clone()
	gone.editRecord(2, func(r *trail.Record) { *r, _ = r.Prune() })
	f.Add(pack(frames(gone[segment])), i["tip"], i["keys/ledger.vkey"])
	dir := i.write(f)
	keys := []note.Verifier{l.key.verifier}
	f.Fuzz(func(t *testing.T, packed, tip, key []byte) {
		bodies := unpack(packed)
		for name, data := range map[string][]byte{segment: join(i[segment], bodies), "tip": tip, "keys/ledger.vkey": key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r, err := verify.Dir(context.Background(), dir, verify.Options{Keys: keys, Since: [][]byte{l.newest().Note}})
		if err != nil {
			t.Fatal(err)
		}
		if r.OK() && !bytes.HasPrefix(pack(bodies), seed) {
			t.Errorf("found good: %q", bodies)
		}
	})
}

// FuzzExport verifies hostile exports. Only the export itself may be found
// good, or a part of it that does not claim to be whole.
func FuzzExport(f *testing.F) {
	l := newLedger(f, 1, 1, 3)
	whole, some := l.export(f), l.filtered(f, 1, 3)
	was := l.records[2]
	l.records[2], _ = was.Prune()
	gone := l.export(f)
	l.records[2] = was
	for _, lines := range [][]string{whole, some, whole[:2], {whole[4]}, gone} {
		f.Add([]byte(strings.Join(lines, "")))
	}
	keys := []note.Verifier{l.key.verifier}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := verify.Export(context.Background(), bytes.NewReader(data), verify.Options{Keys: keys})
		if err != nil {
			t.Fatal(err)
		}
		if r.OK() && r.Authenticated {
			for line := range strings.Lines(string(data)) {
				if _, trailer, _ := trail.ParseLine([]byte(line)); trailer == nil && !strings.Contains(strings.Join(whole, "")+strings.Join(some, ""), strings.TrimSuffix(line, "\n")) {
					t.Errorf("found good: %q", line)
				}
			}
		}
	})
}
