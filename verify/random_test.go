package verify_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// edit changes data at random, in one of many ways, and says how.
func edit(r *rand.Rand, data []byte) ([]byte, string) {
	at := r.IntN(len(data))
	n := 1 + r.IntN(min(len(data)-at, 1<<r.IntN(12)))
	to := r.IntN(len(data))
	switch part := bytes.Clone(data[at : at+n]); r.IntN(7) {
	case 0:
		return slices.Delete(data, at, at+n), fmt.Sprintf("%d bytes at %d are removed", n, at)
	case 1:
		return slices.Insert(data, to, part...), fmt.Sprintf("%d bytes at %d are repeated at %d", n, at, to)
	case 2:
		clear(data[at : at+n])
		return data, fmt.Sprintf("%d bytes at %d are zeroed", n, at)
	case 3:
		for i := range part {
			data[at+i] = byte(r.Uint32())
		}
		return data, fmt.Sprintf("%d bytes at %d are replaced", n, at)
	case 4:
		return append(data[:at], data[min(len(data), at+n):]...), fmt.Sprintf("%d bytes at %d are removed", n, at)
	case 5:
		copy(data[to:], part)
		return data, fmt.Sprintf("%d bytes at %d are copied to %d", n, at, to)
	default:
		return data[:at], fmt.Sprintf("all from %d on is cut", at)
	}
}

// harmless reports whether all that was done is what a server may do: the newest
// hashes are not written yet, or the key file lacks its last newline.
func harmless(whole, i image) bool {
	for name := range whole {
		was, is := whole[name], i[name]
		if strings.HasPrefix(name, "tree/") && len(is)%32 == 0 {
			was = was[:min(len(is), len(was))]
		}
		if strings.HasPrefix(name, "keys/") {
			was = bytes.TrimSuffix(was, []byte("\n"))
		}
		if !bytes.Equal(was, is) && !bytes.Equal(whole[name], is) {
			return false
		}
	}
	return true
}

func TestWhateverIsDoneToALedgerIsFound(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 4, 1, 20, 0, 30, 210, 0, 10, 40, 1)
	whole := l.image(t)
	names := append(whole.segments(), "tip", "keys/ledger.vkey", "tree/00", "tree/04")
	o := verify.Options{Keys: []note.Verifier{l.key.verifier}}
	for n := range 400 {
		r := rand.New(rand.NewPCG(7, uint64(n)))
		i := whole.clone()
		var how string
		for range 1 + r.IntN(3) {
			name := names[r.IntN(len(names))]
			if len(i[name]) == 0 {
				continue
			}
			var what string
			i[name], what = edit(r, i[name])
			how += name + ": " + what + "; "
		}
		same := true
		for name := range whole {
			same = same && bytes.Equal(whole[name], i[name])
		}
		if same {
			continue
		}
		if report := checkDir(t, i.write(t), o); report.OK() && !harmless(whole, i) {
			t.Errorf("%d: not found: %s", n, how)
		}
	}
}

func TestWhateverIsDoneToAnExportIsFound(t *testing.T) {
	t.Parallel()
	l := newLedger(t, 4, 1, 20, 30)
	whole := []byte(strings.Join(l.export(t), ""))
	o := verify.Options{Keys: []note.Verifier{l.key.verifier}}
	for n := range 400 {
		r := rand.New(rand.NewPCG(8, uint64(n)))
		data, how := edit(r, bytes.Clone(whole))
		if bytes.Equal(bytes.TrimSuffix(data, []byte("\n")), bytes.TrimSuffix(whole, []byte("\n"))) {
			continue
		}
		// What remains in front of a cut agrees with itself, but is not signed.
		if report := checkExport(t, []string{string(data)}, o); report.OK() && report.Authenticated {
			t.Errorf("%d: not found: %s", n, how)
		}
	}
}

func TestManyCheckpointsAreSampledAndTheReportSaysSo(t *testing.T) {
	t.Parallel()
	const n, last = 20_300, 20_299
	l := newLedger(t, 1, 1)
	i := l.image(t)
	bodies := frames(i[i.segments()[0]])
	for len(l.records) < n {
		r := l.tiny()
		l.records = append(l.records, r)
		l.tree.Append(trail.LeafHash(r.Entry), nil)
		l.seal(t)
		bodies = append(bodies, r.AppendFrame(nil), append([]byte{trail.FrameCheckpoint}, l.newest().Note...))
	}
	i["tip"] = append(bytes.Clone(l.newest().Note), make([]byte, trail.TipSize-len(l.newest().Note))...)
	verifier := []note.Verifier{l.key.verifier}
	for _, tt := range []struct {
		forge  int // index of the entry whose checkpoint gets a false signature
		every  bool
		want   []found
		sample bool
	}{
		{-1, false, nil, true},
		{-1, true, nil, false},
		{19_999, false, []found{{verify.BadSignature, 19_999}}, true},
		{20_100, false, nil, true},
		{20_100, true, []found{{verify.BadSignature, 20_100}}, false},
		{last, false, []found{{verify.BadSignature, last}}, true},
	} {
		if race && (tt.forge != 20_100 || tt.every) { // each case takes a race detector ten seconds
			continue
		}
		forged := slices.Clone(bodies)
		if tt.forge >= 0 {
			at := 2*tt.forge + 1
			forged[at] = bytes.Clone(forged[at])
			forged[at][len(forged[at])-20] ^= 1
		}
		j := i.clone()
		j[i.segments()[0]] = join(i[i.segments()[0]], forged)
		r := checkDir(t, j.write(t), verify.Options{Keys: verifier, EverySignature: tt.every})
		if got := findings(r); !slices.Equal(got, tt.want) {
			t.Errorf("%+v: found\n%s", tt, describe(r))
		}
		if said := strings.Contains(strings.Join(r.Notes, "\n"), "of 20300 checkpoints were checked"); said != tt.sample {
			t.Errorf("%+v: notes %q", tt, r.Notes)
		}
	}
}
