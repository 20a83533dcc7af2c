package rest_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/verify"
)

// A logClient reads a log as C2SP tlog-tiles describes it. It shares no code
// with this module: only golang.org/x/mod.
type logClient struct {
	get      func(path string) ([]byte, error)
	verifier note.Verifier
}

// checkpoint returns the newest signed tree head.
func (c *logClient) checkpoint() (tlog.Tree, error) {
	text, err := c.get("checkpoint")
	if err != nil {
		return tlog.Tree{}, err
	}
	n, err := note.Open(text, note.VerifierList(c.verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 3 || lines[0] != c.verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("malformed checkpoint %q", n.Text)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	hash, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: hash}, err
}

// path is that of tlog, which writes the height of tiles and "data" for
// entries, in the spelling of C2SP.
func (c *logClient) path(t tlog.Tile) string {
	p := strings.TrimPrefix(t.Path(), "tile/8/")
	if t.L == -1 {
		p = "entries" + strings.TrimPrefix(p, "data")
	}
	return "tile/" + p
}

// Height, ReadTiles and SaveTiles implement tlog.TileReader.
func (c *logClient) Height() int { return 8 }

func (c *logClient) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range tiles {
		data, err := c.get(c.path(t))
		if err != nil {
			return nil, err
		}
		out = append(out, data)
	}
	return out, nil
}

func (c *logClient) SaveTiles([]tlog.Tile, [][]byte) {}

// entries returns the entries of a bundle.
func (c *logClient) entries(n int64, width int) ([][]byte, error) {
	data, err := c.get(c.path(tlog.Tile{H: 8, L: -1, N: n, W: width}))
	if err != nil {
		return nil, err
	}
	var list [][]byte
	for len(data) > 0 {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return nil, errors.New("a bundle is cut off")
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		list = append(list, data[2:end])
		data = data[end:]
	}
	if len(list) != width {
		return nil, fmt.Errorf("bundle %d has %d entries, want %d", n, len(list), width)
	}
	return list, nil
}

// follow checks every entry under the newest checkpoint, and that it extends
// the one before.
func (c *logClient) follow(before tlog.Tree) (tlog.Tree, error) {
	tree, err := c.checkpoint()
	if err != nil {
		return tree, err
	}
	hashes := tlog.TileHashReader(tree, c) // which checks tiles against the root
	if before.N > 0 {
		proof, err := tlog.ProveTree(tree.N, before.N, hashes)
		if err != nil {
			return tree, err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, before.N, before.Hash); err != nil {
			return tree, err
		}
	}
	var all []tlog.Hash
	for first := int64(0); first < tree.N; first += 256 {
		list, err := c.entries(first/256, int(min(256, tree.N-first)))
		if err != nil {
			return tree, err
		}
		for i, entry := range list {
			stored, err := tlog.StoredHashes(first+int64(i), entry, tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
				out := make([]tlog.Hash, len(at))
				for j, x := range at {
					out[j] = all[x]
				}
				return out, nil
			}))
			if err != nil {
				return tree, err
			}
			all = append(all, stored...)
		}
	}
	var own tlog.HashReaderFunc = func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, x := range at {
			out[i] = all[x]
		}
		return out, nil
	}
	root, err := tlog.TreeHash(tree.N, own)
	if err != nil {
		return tree, err
	}
	if root != tree.Hash {
		return tree, errors.New("the entries do not give the checkpoint's root")
	}
	// Single entries, too, by way of the tiles.
	for _, i := range []int64{0, tree.N / 2, tree.N - 1} {
		proof, err := tlog.ProveRecord(tree.N, i, hashes)
		if err != nil {
			return tree, err
		}
		leaves, err := own([]int64{tlog.StoredHashIndex(0, i)})
		if err != nil {
			return tree, err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, i, leaves[0]); err != nil {
			return tree, fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return tree, nil
}

// logGet fetches files of the log over HTTP.
func (d *door) logGet(secret string) func(path string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		req, err := http.NewRequest(http.MethodGet, d.URL+"/log/"+path, nil)
		if err != nil {
			return nil, err
		}
		if secret != "" {
			req.Header.Set("Authorization", "Bearer "+secret)
		}
		resp, err := d.Client().Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: status %d: %s", path, resp.StatusCode, data)
		}
		return data, err
	}
}

func TestAnotherImplementationReadsTheLogWhileItGrows(t *testing.T) {
	d := open(t, configured(func(c *rest.Config) { c.PublicLog = "entries" }))
	client := &logClient{get: d.logGet(""), verifier: d.bed.Verifier}
	var before tlog.Tree
	n := 0
	for _, more := range []int{0, 1, 253, 1, 1, 255, 90} { // to 1, 2, 255, 256, 257, 512, 602
		if more > 0 {
			d.as("recorder").record(samples(n, more)...)
		}
		n += more
		tree, err := client.follow(before)
		if err != nil {
			t.Fatalf("at %d entries: %v", n+1, err)
		}
		if tree.N != int64(n+1) {
			t.Errorf("a log of %d entries, want %d", tree.N, n+1)
		}
		before = tree
	}

	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 30 {
				d.as("recorder").record(sample(10_000 + 30*w + i))
			}
		})
	}
	for range 3 {
		tree, err := client.follow(before)
		if err != nil {
			t.Fatal(err)
		}
		before = tree
	}
	writers.Wait()
	if tree, err := client.follow(before); err != nil || tree.N != 722 {
		t.Errorf("at the end %d entries, %v", tree.N, err)
	}
}

func TestTheVerifierReadsTheLogOverHTTP(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 600)...)
	get := d.logGet(d.secrets["auditor"])
	report, err := verify.Log(t.Context(), d.URL, func(_ context.Context, path string) ([]byte, error) { return get(path) },
		verify.Options{Keys: []note.Verifier{d.bed.Verifier}})
	if err != nil {
		t.Fatal(err)
	}
	if !report.OK() || !report.Authenticated || report.Size < 600 {
		t.Errorf("%+v", report)
	}
}

func TestTilesMayBeKeptByThoseWhoMaySeeThem(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 300)...)
	for _, path := range []string{"/log/tile/0/000", "/log/tile/0/001.p/9", "/log/tile/entries/000", "/log/tile/entries/001.p/9"} {
		h := d.as("auditor").get(path).want(http.StatusOK).header
		if h.Get("Cache-Control") != "private, max-age=31536000, immutable" || !strings.Contains(h.Get("Vary"), "Authorization") || h.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s: %v", path, h)
		}
	}
	h := d.as("auditor").get("/log/checkpoint").want(http.StatusOK).header
	if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("checkpoint: %v", h)
	}
}

func TestBundlesAreCompressedForThoseWhoTakeIt(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 300)...)
	plain := d.as("auditor").get("/log/tile/entries/000", "Accept-Encoding", "identity").want(http.StatusOK)
	for _, tt := range []struct {
		accept string
		gzip   bool
	}{{"gzip", true}, {"br, GZIP;q=0.5", true}, {"gzip;q=1.0", true}, {"", false}, {"identity", false}, {"gzip;q=0", false}, {"br, gzip; q=0.0", false}, {"xgzip", false}} {
		a := d.as("auditor").get("/log/tile/entries/000", "Accept-Encoding", tt.accept).want(http.StatusOK)
		if got := a.header.Get("Content-Encoding") == "gzip"; got != tt.gzip {
			t.Errorf("%q: compressed %v", tt.accept, got)
		} else if got && len(a.body) >= len(plain.body) || !got && string(a.body) != string(plain.body) {
			t.Errorf("%q: %d bytes of %d", tt.accept, len(a.body), len(plain.body))
		}
	}
}
