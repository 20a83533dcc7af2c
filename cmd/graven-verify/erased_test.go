package main

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
)

func TestItBelievesWhatTombstonesName(t *testing.T) {
	dir := t.TempDir()
	b := storetest.NewBed(t, func(b *storetest.Bed) (storetest.Store, error) {
		return filestore.Open(dir, filestore.Options{Verifier: b.Verifier})
	})
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, trail.VKeyFile), []byte(b.VerifierKey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := b.Start(t)
	r.AppendMany(0, 30)
	x := r.Erasing(0, 1)
	if _, err := x.Eraser.Erase(t.Context(), custody.Caller{By: storetest.By}, &custody.Order{Reason: "r", Scope: retention.Scope{CorrelationID: "inc-2"}}); err != nil {
		t.Fatal(err)
	}
	if err := x.Journal.Close(); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	var out bytes.Buffer
	if code := run([]string{dir, "--key", b.VerifierKey}, &out, &out); code != 0 || !strings.Contains(out.String(), "the details of 5 entries were erased") {
		t.Fatalf("exit code %d:\n%s", code, out.String())
	}
	// Another entry loses its content, and no tombstone names it.
	path := filepath.Join(dir, "log", "00000000000000000000.seg")
	strip(t, path, 3)
	out.Reset()
	if code := run([]string{dir, "--key", b.VerifierKey}, &out, &out); code != 3 || !strings.Contains(out.String(), "WRONG entry 3: the details are missing") {
		t.Errorf("exit code %d:\n%s", code, out.String())
	}
}

// strip takes away the content of an entry of a segment.
func strip(t *testing.T, path string, index int64) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for at := 20; at < len(data); {
		n := int(data[at]) | int(data[at+1])<<8 | int(data[at+2])<<16
		body := data[at+8 : at+8+n]
		if r, err := trail.ParseFrame(body); err == nil && r.Index == index {
			copy(body, r.AppendErased(nil))
			sum := checksum(body)
			copy(data[at+4:], sum[:])
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			return
		}
		at += 8 + n
	}
	t.Fatalf("there is no entry %d", index)
}

func checksum(body []byte) [4]byte {
	var sum [4]byte
	binary.LittleEndian.PutUint32(sum[:], crc32.Checksum(body, castagnoli))
	return sum
}
