package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// record makes a ledger with the product's own code and returns its directory,
// its key, and a whole and a filtered export.
func record(t *testing.T, n int) (dir, vkey, export, filtered string) {
	t.Helper()
	dir = t.TempDir()
	skey, vkey, err := note.GenerateKey(rand.Reader, "audit.example/test")
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
	if err := os.MkdirAll(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, trail.VKeyFile), []byte(vkey+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := filestore.Open(dir, filestore.Options{Verifier: verifier})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	l, err := ledger.Open(ctx, ledger.Config{Store: s, Signer: signer, VerifierKey: vkey})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e := &event.Event{EventType: "IssueCreated", Timestamp: time.Now(), Actor: event.Actor{Type: "user", Name: "kim"},
			Resource: event.Resource{Kind: "Issue", Name: fmt.Sprint(i)}}
		if results, _, err := l.Append(ctx, ledger.By{Principal: "kim", Via: "token"}, []*event.Event{e}); err != nil || results[0].Err != nil {
			t.Fatal(err, results)
		}
	}
	c := l.State().Checkpoint
	var lines, some bytes.Buffer
	var chain trail.Hash
	if err := s.Wait(ctx, c.Size); err != nil {
		t.Fatal(err)
	}
	count := int64(0)
	err = s.Records(ctx, search.Range{End: c.Size}, func(r *trail.Record) error {
		e, err := r.Event()
		if err != nil {
			return err
		}
		line := trail.Line{Event: e, Record: *r, Previous: chain}
		lines.Write(line.Append(nil))
		chain = r.Chain
		if r.Index%3 == 0 {
			if line.Proof, err = tlog.ProveRecord(c.Size, r.Index, s); err != nil {
				return err
			}
			some.Write(line.Append(nil))
			count++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	note := string(c.Note)
	for w, trailer := range map[*bytes.Buffer]trail.Trailer{
		&lines: {Checkpoint: note, Filter: map[string]string{}, Count: c.Size},
		&some:  {Checkpoint: note, Filter: map[string]string{"kind": "Issue"}, Count: count},
	} {
		if err := json.NewEncoder(w).Encode(trailer); err != nil {
			t.Fatal(err)
		}
	}
	l.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	export, filtered = filepath.Join(t.TempDir(), "ledger.ndjson"), filepath.Join(t.TempDir(), "some.ndjson")
	if err := errors.Join(os.WriteFile(export, lines.Bytes(), 0o600), os.WriteFile(filtered, some.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return dir, vkey, export, filtered
}

// verdict runs the program.
func verdict(args ...string) (code int, text string) {
	var out bytes.Buffer
	code = run(args, &out, &out)
	return code, out.String()
}

func TestTheCommandLine(t *testing.T) {
	dir, vkey, export, filtered := record(t, 600)
	_, other, _, _ := record(t, 1)
	key, tip := filepath.Join(dir, trail.VKeyFile), filepath.Join(t.TempDir(), "kept")
	text, err := os.ReadFile(filepath.Join(dir, trail.TipFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tip, bytes.TrimRight(text, "\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"a directory", []string{dir}, 0, "self-consistent, key not authenticated"},
		{"a directory with its key", []string{dir, "--key", key}, 0, "GOOD: 601 entries, root "},
		{"a key as such, before the target", []string{"--key", vkey, dir}, 0, "an older copy would pass"},
		{"an earlier checkpoint", []string{dir, "--key", key, "--since", tip}, 0, "GOOD"},
		{"an export", []string{export, "--key", key}, 0, "GOOD: 601 entries"},
		{"an export without a key", []string{export}, 0, "no signature was checked"},
		{"a filtered export", []string{filtered, "--key", key}, 0, "GOOD: 201 entries, each with its proof"},
		{"another key", []string{dir, "--key", other}, 3, "WRONG"},
		{"another key for an export", []string{export, "--key", other}, 3, "WRONG the checkpoint in the last line"},
		{"no target", nil, 2, "Usage"},
		{"two targets", []string{dir, export}, 2, "Usage"},
		{"an unknown flag", []string{dir, "--fast"}, 2, "fast"},
		{"a key that is none", []string{dir, "--key", "a+b"}, 1, "--key"},
		{"help", []string{"--help"}, 0, "Usage"},
		{"version", []string{"--version"}, 0, "graven-verify "},
		{"no such target", []string{filepath.Join(dir, "none")}, 1, "no such file"},
		{"not a ledger", []string{filepath.Join(dir, "log"), "--key", key}, 1, "holds no log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if code, text := verdict(tt.args...); code != tt.code || !strings.Contains(text, tt.want) {
				t.Errorf("exit code %d, want %d, and %q in:\n%s", code, tt.code, tt.want, text)
			}
		})
	}
}

func TestAnOlderCopyFailsAgainstALaterCheckpoint(t *testing.T) {
	dir, _, export, _ := record(t, 20)
	kept := filepath.Join(t.TempDir(), "kept")
	key := filepath.Join(dir, trail.VKeyFile)
	text, err := os.ReadFile(filepath.Join(dir, trail.TipFile))
	if err != nil {
		t.Fatal(err)
	}
	c, err := trail.ReadCheckpoint(bytes.TrimRight(text, "\x00"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(kept, c.Note, 0o600); err != nil {
		t.Fatal(err)
	}
	lines, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	cut := bytes.Join(bytes.SplitAfter(lines, []byte("\n"))[:10], nil) // neither its end nor its checkpoint
	if err := os.WriteFile(export, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, text := verdict(export, "--key", key); code != 0 || !strings.Contains(text, "nothing shows that the end was not cut off") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	if code, text := verdict(export, "--key", key, "--since", kept); code != 3 || !strings.Contains(text, "speaks of 21 entries, there are 10") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

// TestItAgreesWithTheOtherVerifier flips bits and cuts files at random. The
// two verifiers share no code but the formats, and must come to one verdict.
func TestItAgreesWithTheOtherVerifier(t *testing.T) {
	dir, _, export, filtered := record(t, 300)
	key, err := os.ReadFile(filepath.Join(dir, trail.VKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		t.Fatal(err)
	}
	o := verify.Options{Keys: []note.Verifier{v}}
	rng := mathrand.New(mathrand.NewPCG(1, 2))
	for _, path := range []string{filepath.Join(dir, "log", "00000000000000000000.seg"), filepath.Join(dir, trail.TipFile), filepath.Join(dir, "tile", "0", "000"), export, filtered} {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 40 {
			harmed, what := bytes.Clone(whole), ""
			if n%8 == 0 && path != filepath.Join(dir, trail.TipFile) {
				at := rng.IntN(len(whole))
				harmed, what = harmed[:at], fmt.Sprintf("cut at %d", at)
			} else {
				at := rng.IntN(len(whole))
				harmed[at] ^= 1 << rng.IntN(8)
				what = fmt.Sprintf("flipped at %d", at)
			}
			if err := os.WriteFile(path, harmed, 0o600); err != nil {
				t.Fatal(err)
			}
			target := path
			check := func() (*verify.Report, error) { return verify.Export(t.Context(), bytes.NewReader(harmed), o) }
			if path != export && path != filtered {
				target = dir
				check = func() (*verify.Report, error) { return verify.Dir(t.Context(), dir, o) }
			}
			report, err := check()
			if err != nil {
				t.Fatal(err)
			}
			code, text := verdict(target, "--key", strings.TrimSpace(string(key)))
			if (code == 3) != !report.OK() {
				t.Errorf("%s %s: exit code %d\n%sthe other: %+v", filepath.Base(path), what, code, text, report.Findings)
			}
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatALedgerSaysCannotCommandTheTerminal(t *testing.T) {
	if got := printable("a\x1b[2Jb\u202ec\x9bd"); got != "a?[2Jb?c?d" && got != "a?[2Jb?c\ufffdd" {
		t.Errorf("%q", got)
	}
}
