package trail_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// The values are those of sha256sum.
func TestTheChainIsWhatTheShellComputes(t *testing.T) {
	t.Parallel()
	first := trail.Link(trail.Hash{}, []byte(`{"a":1}`))
	if got, want := trail.Hex(first), "fc6cee09194dd2578bd7664604fcb72a539066fd34544cea0009c43eb6cdc289"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := trail.Hex(trail.Link(first, []byte(`{"b":"€"}`))), "76cdb47b6d633768fd4852cafd3ba59280d86c5519cc74656fa8f597a99ab9a6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHashesAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	h := trail.Link(trail.Hash{}, nil)
	if got, err := trail.ParseHex(trail.Hex(h)); err != nil || got != h {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "00", trail.Hex(h) + "0", "g" + trail.Hex(h)[1:], strings.ToUpper(trail.Hex(h))} {
		if _, err := trail.ParseHex(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

// The inputs and roots are those of the reference implementation of
// Certificate Transparency.
func TestRootsAreThoseOfRFC6962(t *testing.T) {
	t.Parallel()
	inputs := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var tree trail.Tree
	for n, want := range roots {
		if got := trail.Hex(tree.Root()); got != want || tree.Size() != int64(n) {
			t.Errorf("%d leaves: root %s, want %s", tree.Size(), got, want)
		}
		if n < len(inputs) {
			entry, err := hex.DecodeString(inputs[n])
			if err != nil {
				t.Fatal(err)
			}
			tree.Append(trail.LeafHash(entry), nil)
		}
	}
}

// stored is all hashes of a tree, as tlog stores them.
type stored []trail.Hash

func (s *stored) ReadHashes(indexes []int64) ([]trail.Hash, error) {
	var out []trail.Hash
	for _, x := range indexes {
		out = append(out, (*s)[x])
	}
	return out, nil
}

func TestATreeIsThatOfTlog(t *testing.T) {
	t.Parallel()
	var tree trail.Tree
	var all stored
	for n := range int64(1031) {
		want, err := tlog.TreeHash(n, &all)
		if err != nil {
			t.Fatal(err)
		}
		if got := tree.Root(); got != want {
			t.Fatalf("%d leaves: root %v, want %v", n, got, want)
		}
		resumed, err := trail.ResumeTree(n, &all)
		if err != nil {
			t.Fatal(err)
		}
		if resumed.Root() != want || resumed.Size() != n {
			t.Fatalf("%d leaves: resumed root %v, want %v", n, resumed.Root(), want)
		}
		entry := fmt.Appendf(nil, "entry %d", n)
		hashes, err := tlog.StoredHashes(n, entry, &all)
		if err != nil {
			t.Fatal(err)
		}
		done := 0
		check := func(level int, i int64, h trail.Hash) {
			if level != done || i != n>>level || h != hashes[level] {
				t.Fatalf("leaf %d completes hash %d of level %d, %v", n, i, level, h)
			}
			done++
		}
		tree.Append(trail.LeafHash(entry), check)
		resumed.Append(trail.LeafHash(entry), nil)
		if done != len(hashes) || resumed.Root() != tree.Root() {
			t.Fatalf("leaf %d: %d of %d hashes were completed", n, done, len(hashes))
		}
		all = append(all, hashes...)
	}
}

func TestATreeThatCannotBeReadIsNotResumed(t *testing.T) {
	t.Parallel()
	fail := tlog.HashReaderFunc(func([]int64) ([]trail.Hash, error) { return nil, fmt.Errorf("no disk") })
	if _, err := trail.ResumeTree(5, fail); err == nil {
		t.Error("no error")
	}
}

func TestTheChainIsOverTheHexOfTheHashBefore(t *testing.T) {
	entry := []byte(`{"v":1}`)
	for range 1000 {
		var h trail.Hash
		rand.Read(h[:])
		if want := trail.Hash(sha256.Sum256(append([]byte(hex.EncodeToString(h[:])), entry...))); trail.Link(h, entry) != want {
			t.Fatalf("after %x", h)
		}
	}
}
