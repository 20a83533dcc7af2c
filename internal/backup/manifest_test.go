package backup

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"math/bits"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// madeUp returns a manifest of n entries, and its key.
func madeUp(t testing.TB, n int) *datadir.Manifest {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "a.example")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	var p position
	for i := range n {
		p.append(trail.LeafHash([]byte{byte(i), byte(i >> 8)}))
	}
	p.segment, p.offset = 3, 1000
	c, err := trail.SignCheckpoint("a.example", p.tree.Size(), p.tree.Root(), signer)
	if err != nil {
		t.Fatal(err)
	}
	p.note = c.Note
	return p.manifest("a.example", vkey)
}

// parse reads a manifest and checks it.
func parse(data []byte) (*datadir.Manifest, note.Verifier, error) {
	m, err := datadir.ParseManifest(data)
	if err != nil {
		return nil, nil, err
	}
	key, err := checkManifest(m)
	return m, key, err
}

func encode(t testing.TB, m *datadir.Manifest) []byte {
	t.Helper()
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestATreeGoesOnFromAManifest(t *testing.T) {
	for n := 1; n < 600; n += 1 + n/7 {
		m, _, err := parse(encode(t, madeUp(t, n)))
		if err != nil {
			t.Fatal(n, err)
		}
		p, err := positionOf(m)
		if err != nil {
			t.Fatal(n, err)
		}
		var want trail.Tree
		for i := range n + 300 {
			leaf := trail.LeafHash([]byte{byte(i), byte(i >> 8)})
			want.Append(leaf, nil)
			if i >= n {
				p.append(leaf)
			}
		}
		if p.tree.Root() != want.Root() {
			t.Errorf("%d entries, and 300 more: another root", n)
		}
	}
}

func TestAManifestThatDoesNotHoldIsRefused(t *testing.T) {
	good := madeUp(t, 11)
	for name, tt := range map[string]struct {
		change func(m *datadir.Manifest)
		says   string
	}{
		"another size":       {func(m *datadir.Manifest) { m.Size = 10 }, "damaged"},
		"a size beyond all":  {func(m *datadir.Manifest) { m.Size = 1<<63 - 1 }, "damaged"},
		"a changed edge":     {func(m *datadir.Manifest) { m.Edge[1][0] ^= 1 }, "does not agree with its checkpoint"},
		"a short edge":       {func(m *datadir.Manifest) { m.Edge = m.Edge[1:] }, "too short"},
		"a long edge":        {func(m *datadir.Manifest) { m.Edge = append(m.Edge, trail.Hash{}) }, "too long"},
		"no checkpoint":      {func(m *datadir.Manifest) { m.Checkpoint = "" }, "damaged"},
		"another key":        {func(m *datadir.Manifest) { m.Key = madeUp(t, 1).Key }, "damaged"},
		"another origin":     {func(m *datadir.Manifest) { m.Origin = "b.example" }, "the key is that of another ledger"},
		"no key":             {func(m *datadir.Manifest) { m.Key = "" }, "damaged"},
		"an offset too low":  {func(m *datadir.Manifest) { m.Offset = seglog.FirstOffset - 1 }, "damaged"},
		"a negative offset":  {func(m *datadir.Manifest) { m.Offset = -1 }, "not the manifest"},
		"a negative size":    {func(m *datadir.Manifest) { m.Size = -1 }, "not the manifest"},
		"no version":         {func(m *datadir.Manifest) { m.V = 0 }, "not the manifest"},
		"a later version":    {func(m *datadir.Manifest) { m.V = 2 }, "the backup is of format 2, and this version knows format 1"},
		"itself":             {func(*datadir.Manifest) {}, ""},
		"one that is not to": {func(m *datadir.Manifest) { m.Checkpoint, m.Size, m.Edge = "", 0, nil }, ""},
	} {
		m := *good
		m.Edge = append([]trail.Hash{}, good.Edge...)
		tt.change(&m)
		_, _, err := parse(encode(t, &m))
		if (err == nil) != (tt.says == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", name, err, tt.says)
		}
		if m.V == 2 && !errors.Is(err, datadir.ErrNewer) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, text := range []string{"", "null", "[]", "{}", `{"v":1,"hue":2}`, string(encode(t, good)) + "{}"} {
		if _, _, err := parse([]byte(text)); err == nil {
			t.Errorf("%q is taken for a manifest", text)
		}
	}
}

// A backup by a later version is neither written to nor restored.
func TestABackupByALaterVersionStaysAsItIs(t *testing.T) {
	dir := t.TempDir()
	m := madeUp(t, 4)
	m.V = 2
	if err := os.WriteFile(filepath.Join(dir, datadir.BackupFile), encode(t, m), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Restore(t.Context(), RestoreOptions{Backup: dir, Dir: filepath.Join(t.TempDir(), "new")})
	if !errors.Is(err, datadir.ErrNewer) || !strings.Contains(err.Error(), "use the version that wrote it") {
		t.Errorf("restore: %v", err)
	}
	key, err := trail.ParseKey(m.Key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := prove(t.Context(), &Options{Dir: dir}, &source{key: key}); !errors.Is(err, datadir.ErrNewer) {
		t.Errorf("back up: %v", err)
	}
}

func FuzzPositionOf(f *testing.F) {
	for _, n := range []int64{0, 1, 7, 256, 1<<59 + 1} {
		f.Add(n<<3, make([]byte, 32*bits.OnesCount64(uint64(n))))
	}
	f.Add(int64(3<<3), make([]byte, 32))
	f.Add(int64(1<<3), make([]byte, 64))
	f.Fuzz(func(t *testing.T, size int64, edge []byte) {
		// Greater sizes are those of no checkpoint, against which it is held before.
		m := &datadir.Manifest{V: datadir.ManifestVersion, Size: max(size, -(size+1)) >> 3, Checkpoint: "x", Edge: []trail.Hash{}}
		for h := range slices.Chunk(edge, 32) {
			var hash trail.Hash
			copy(hash[:], h)
			m.Edge = append(m.Edge, hash)
		}
		p, err := positionOf(m)
		if fits := m.Size == 0 || len(m.Edge) == bits.OnesCount64(uint64(m.Size)); (err == nil) != fits {
			t.Fatalf("%d entries, and an edge of %d: %v", m.Size, len(m.Edge), err)
		}
		if err != nil || m.Size == 0 {
			return
		}
		if again := p.manifest("", ""); p.tree.Size() != m.Size || !slices.Equal(again.Edge, m.Edge) {
			t.Errorf("%+v comes back as %+v", m, again)
		}
		p.append(trail.Hash{1})
	})
}
