package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// record makes a ledger with the product's own code and returns its directory,
// its key, and a whole and a filtered export.
func record(t *testing.T, n int) (dir, vkey, export, filtered string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "audit.example/test")
	if err != nil {
		t.Fatal(err)
	}
	dir, export, filtered = recordWith(t, skey, vkey, n)
	return dir, vkey, export, filtered
}

// recordWith makes a ledger with a given key.
func recordWith(t *testing.T, skey, vkey string, n int) (dir, export, filtered string) {
	t.Helper()
	return recordAfter(t, skey, vkey, n, nil)
}

// recordAfter makes a ledger that succeeds another.
func recordAfter(t *testing.T, skey, vkey string, n int, p *succession.Predecessor) (dir, export, filtered string) {
	t.Helper()
	dir = t.TempDir()
	export, filtered = recordIn(t, dir, skey, vkey, n, p)
	return dir, export, filtered
}

// recordIn makes a ledger in a directory, or goes on with the one there.
func recordIn(t *testing.T, dir, skey, vkey string, n int, p *succession.Predecessor) (export, filtered string) {
	t.Helper()
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
	l, err := ledger.Open(ctx, ledger.Config{Store: s, Signer: signer, VerifierKey: vkey, Predecessor: p})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		e := &event.Event{EventType: "IssueCreated", Timestamp: time.Now(), Actor: event.Actor{Type: "user", Name: "kim"},
			Resource: event.Resource{Kind: "Issue", Name: fmt.Sprint(i)}, Details: []byte(`{"replicas":3}`)}
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
	return export, filtered
}

// tip returns the newest checkpoint of a directory, in a file of its own.
func tip(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, trail.TipFile))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kept")
	if err := os.WriteFile(path, bytes.TrimRight(text, "\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
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
	key := filepath.Join(dir, trail.VKeyFile)
	tests := []struct {
		name string
		args []string
		code int
		want string
	}{
		{"a directory", []string{dir}, 0, "self-consistent, key not authenticated"},
		{"a directory with its key", []string{dir, "--key", key}, 0, "GOOD: 601 entries, root "},
		{"a key as such, before the target", []string{"--key", vkey, dir}, 0, "an older copy would pass"},
		{"an earlier checkpoint", []string{dir, "--key", key, "--since", tip(t, dir)}, 0, "GOOD"},
		{"an export", []string{export, "--key", key}, 0, "GOOD: 601 entries"},
		{"an export without a key", []string{export}, 0, "no signature was checked"},
		{"a filtered export", []string{filtered, "--key", key}, 0, "GOOD: 201 entries, each with its proof"},
		{"another key", []string{dir, "--key", other}, 3, "WRONG"},
		{"another key for an export", []string{export, "--key", other}, 3, "WRONG the checkpoint in the last line"},
		{"no target", nil, 2, "Usage"},
		{"two targets", []string{dir, export}, 2, "Usage"},
		{"an unknown flag", []string{dir, "--fast"}, 2, "fast"},
		{"a key that is none", []string{dir, "--key", "a+b"}, 2, "--key"},
		{"a file that holds no key", []string{dir, "--key", export}, 2, "--key"},
		{"an earlier checkpoint that is not there", []string{dir, "--since", "none"}, 2, "--since"},
		{"an earlier checkpoint that is none", []string{dir, "--since", key}, 2, "--since"},
		{"a witness that is none", []string{dir, "--witness", "w"}, 2, "--witness"},
		{"a file that holds no witness", []string{dir, "--witness", key}, 2, "--witness"},
		{"a threshold without witnesses", []string{dir, "--threshold", "1"}, 2, "--threshold"},
		{"a negative threshold", []string{dir, "--threshold", "-1"}, 2, "--threshold"},
		{"a threshold that is no number", []string{dir, "--threshold", "x"}, 2, "threshold"},
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
	kept, key := tip(t, dir), filepath.Join(dir, trail.VKeyFile)
	lines, err := os.ReadFile(export)
	if err != nil {
		t.Fatal(err)
	}
	cut := bytes.Join(bytes.SplitAfter(lines, []byte("\n"))[:10], nil) // neither its end nor its checkpoint
	if err := os.WriteFile(export, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, text := verdict(export); code != 0 || !strings.Contains(text, "nothing shows that the end was not cut off") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	if code, text := verdict(export, "--key", key, "--since", kept); code != 3 || !strings.Contains(text, "speaks of 21 entries, there are 10") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

func TestAnEarlierCheckpointIsComparedOrSaidNotToBe(t *testing.T) {
	skey, vkey, err := note.GenerateKey(rand.Reader, "audit.example/test")
	if err != nil {
		t.Fatal(err)
	}
	dir, export, filtered := recordWith(t, skey, vkey, 20)
	short, _, _ := recordWith(t, skey, vkey, 10)
	fork, _, _ := recordWith(t, skey, vkey, 20)
	long, _, _ := recordWith(t, skey, vkey, 30)
	for _, tt := range []struct {
		name, target, since string
		code                int
		want                string
	}{
		{"a directory that ends where a fork was signed with the real key", dir, fork, 3, "not the same ledger"},
		{"an export that ends there", export, fork, 3, "not the same ledger"},
		{"a filtered export made there", filtered, fork, 3, "not the same ledger"},
		{"a filtered export made at an older state", filtered, long, 3, "speaks of 31 entries, the export's of 21"},
		{"a filtered export made at a newer state", filtered, short, 0, "unproven: the earlier checkpoint of 11 entries could not be compared"},
		{"a filtered export made at the same state", filtered, dir, 0, "it cannot show that it has everything"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, text := verdict(tt.target, "--key", vkey, "--since", tip(t, tt.since)); code != tt.code || !strings.Contains(text, tt.want) {
				t.Errorf("exit code %d, want %d, and %q in:\n%s", code, tt.code, tt.want, text)
			}
		})
	}
}

func TestAnExportThatWasTamperedWithFails(t *testing.T) {
	_, vkey, whole, filtered := record(t, 20)
	salt := regexp.MustCompile(`,"salt":"[0-9a-f]*"`)
	// edit changes the line of entry 6, and trailer the last.
	edit := func(change func(line []byte) []byte) func([][]byte) [][]byte {
		return func(lines [][]byte) [][]byte {
			for i, l := range lines {
				if bytes.Contains(l, []byte(`"index":6,`)) {
					lines[i] = change(l)
				}
			}
			return lines
		}
	}
	trailer := func(change func(line []byte) []byte) func([][]byte) [][]byte {
		return func(lines [][]byte) [][]byte {
			lines[len(lines)-1] = change(lines[len(lines)-1])
			return lines
		}
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(l []byte) []byte { return bytes.Replace(l, []byte(old), []byte(new), 1) }
	}
	for _, tt := range []struct {
		name   string
		tamper func(lines [][]byte) [][]byte
	}{
		{"details are changed", edit(replace(`"replicas":3`, `"replicas":4`))},
		{"the salt is removed", edit(func(l []byte) []byte { return salt.ReplaceAll(l, nil) })},
		{"the salt is removed and details are changed", edit(func(l []byte) []byte { return replace(`"replicas":3`, `"replicas":4`)(salt.ReplaceAll(l, nil)) })},
		{"the salt is removed and an error message added", edit(func(l []byte) []byte {
			return replace(`"details":{"replicas":3}`, `"error":{"message":"it was denied"}`)(salt.ReplaceAll(l, nil))
		})},
		{"details are written otherwise", edit(replace(`"replicas":3`, `"replicas": 3`))},
		{"an actor is changed", edit(replace(`"name":"kim"`, `"name":"tim"`))},
		{"a member is added", edit(replace(`"index":6,`, `"index":6,"approved":true,`))},
		{"a line ends in a carriage return", edit(func(l []byte) []byte { return append(l[:len(l)-1:len(l)-1], "\r\n"...) })},
		{"a line stands twice", func(lines [][]byte) [][]byte {
			lines[len(lines)-1] = regexp.MustCompile(`"count":\d+`).ReplaceAllFunc(lines[len(lines)-1], func(m []byte) []byte {
				n, _ := strconv.Atoi(string(m[len(`"count":`):]))
				return fmt.Appendf(nil, `"count":%d`, n+1)
			})
			return slices.Insert(lines, 3, lines[2])
		}},
		{"the last line has a member more", trailer(replace(`"count"`, `"complete":true,"count"`))},
		{"the last line is long", trailer(replace(`"count"`, `"more":"`+strings.Repeat("x", 100<<10)+`","count"`))},
		{"something stands behind the last line", func(lines [][]byte) [][]byte { return append(lines, []byte("{}\n")) }},
	} {
		for _, path := range []string{whole, filtered} {
			t.Run(tt.name+", "+filepath.Base(path), func(t *testing.T) {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				lines := bytes.SplitAfter(text, []byte("\n"))
				forged := bytes.Join(tt.tamper(lines[:len(lines)-1]), nil)
				if bytes.Equal(forged, text) {
					t.Fatal("nothing was changed")
				}
				target := filepath.Join(t.TempDir(), "forged.ndjson")
				if err := os.WriteFile(target, forged, 0o600); err != nil {
					t.Fatal(err)
				}
				if code, text := verdict(target, "--key", vkey); code != 3 {
					t.Errorf("exit code %d:\n%s", code, text)
				}
			})
		}
	}
}

func TestAnExportWhoseDetailsWereStrippedFails(t *testing.T) {
	_, vkey, export, filtered := record(t, 3)
	for _, path := range []string{export, filtered} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text = regexp.MustCompile(`(?m)\{"replicas":3\}(.*),"salt":"[0-9a-f]*"`).ReplaceAll(text, []byte("{}$1"))
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{path}, {path, "--key", vkey}} {
			if code, text := verdict(args...); code != 3 || !strings.Contains(text, "WRONG entry 3: the details are missing") {
				t.Errorf("exit code %d:\n%s", code, text)
			}
		}
	}
}

func TestAnExportWithoutItsCheckpointFailsWhereMoreIsAskedFor(t *testing.T) {
	dir, vkey, export, filtered := record(t, 3)
	for _, path := range []string{export, filtered} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		unsigned := text[:bytes.LastIndexByte(text[:len(text)-1], '\n')+1]
		if err := os.WriteFile(path, unsigned, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"a whole one, with the key", []string{export, "--key", vkey}, "nothing in the export is signed"},
		{"a filtered one, with the key", []string{filtered, "--key", vkey}, "?checkpoint=true"},
		{"with an earlier checkpoint", []string{export, "--since", tip(t, dir)}, "nothing in the export is signed"},
		{"an empty one, with the key", []string{os.DevNull, "--key", vkey}, "nothing in the export is signed"},
		{"an empty one", []string{os.DevNull}, "the export is empty"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if code, text := verdict(tt.args...); code != 3 || !strings.Contains(text, tt.want) || strings.Contains(text, "--key") {
				t.Errorf("exit code %d, want %q in:\n%s", code, tt.want, text)
			}
		})
	}
	if code, text := verdict(export); code != 0 || !strings.Contains(text, "no signature was checked") {
		t.Errorf("without a key: exit code %d:\n%s", code, text)
	}
}

func TestALongLineIsAFinding(t *testing.T) {
	path := filepath.Join(t.TempDir(), "long.ndjson")
	if err := os.WriteFile(path, bytes.Repeat([]byte("x"), 50<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, text := verdict(path); code != 3 || !strings.Contains(text, "WRONG line 1 is longer than 8388608 bytes") {
		t.Errorf("exit code %d:\n%.500s", code, text)
	}
}

func TestWhatIsBesideAnEntryMustBeAsItWasSealed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*trail.Record)
		want   string
	}{
		{"details are in another form", func(r *trail.Record) {
			r.Erasable = bytes.Replace(r.Erasable, []byte(`"replicas":3`), []byte(`"replicas": 3`), 1)
		}, "not in the form"},
		{"details are gone", func(r *trail.Record) { r.Salt, r.Erasable = event.Salt{}, nil }, "the details are missing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, vkey, _, _ := record(t, 3)
			if n := reseal(t, dir, tt.change); n != 3 {
				t.Fatalf("%d entries were changed", n)
			}
			if code, text := verdict(dir, "--key", vkey); code != 3 || strings.Count(text, "WRONG") != 3 || strings.Count(text, tt.want) != 3 {
				t.Errorf("exit code %d:\n%s", code, text)
			}
		})
	}
}

// reseal changes the records with replicas in a directory, with good checksums,
// and returns how many there are.
func reseal(t *testing.T, dir string, change func(*trail.Record)) (changed int) {
	t.Helper()
	path := filepath.Join(dir, trail.LogDir, "00000000000000000000.seg")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	out, rest := bytes.Clone(data[:20]), data[20:]
	for len(rest) > 8 && binary.LittleEndian.Uint32(rest) > 0 {
		n := binary.LittleEndian.Uint32(rest)
		body := bytes.Clone(rest[8 : 8+n])
		if r, err := trail.ParseFrame(body); err == nil && bytes.Contains(r.Erasable, []byte(`"replicas":3`)) {
			change(&r)
			body = r.AppendFrame(nil)
			changed++
		}
		out = binary.LittleEndian.AppendUint32(out, uint32(len(body)))
		out = binary.LittleEndian.AppendUint32(out, crc32.Checksum(body, castagnoli))
		out, rest = append(out, body...), rest[8+n:]
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return changed
}

// TestItAgreesWithTheOtherVerifier flips bits and cuts files at random. The
// two verifiers share no code but the formats, and must come to one verdict.
func TestItAgreesWithTheOtherVerifier(t *testing.T) {
	dir, _, export, filtered := record(t, 80)
	agree(t, dir, export, filtered)
}

// agree harms the first segment, the tip and the hashes of a directory, and
// exports, and has both verifiers judge them.
func agree(t *testing.T, dir string, exports ...string) {
	t.Helper()
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
	for _, path := range append([]string{filepath.Join(dir, "log", "00000000000000000000.seg"), filepath.Join(dir, trail.TipFile), filepath.Join(dir, "tree", "00")}, exports...) {
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
			if !slices.Contains(exports, path) {
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

func TestThePredecessorIsCheckedWithItsSuccessor(t *testing.T) {
	dir, vkey, _, _ := record(t, 10)
	old, err := os.ReadFile(filepath.Join(dir, trail.TipFile))
	if err != nil {
		t.Fatal(err)
	}
	c, err := trail.ReadCheckpoint(bytes.TrimRight(old, "\x00"))
	if err != nil {
		t.Fatal(err)
	}
	other, _, _, _ := record(t, 10)
	for name, tt := range map[string]struct {
		below  string
		change func(p *succession.Predecessor)
		code   int
		says   string
	}{
		"itself":          {dir, nil, 0, "11 entries, all good"},
		"none":            {"", nil, 0, "which is not here and was not checked"},
		"another ledger":  {other, nil, 3, "WRONG"},
		"another size":    {dir, func(p *succession.Predecessor) { p.Checkpoint = string(c.Note[:len(c.Note)-9]) + "\n" }, 3, "checkpoint in entry 0"},
		"a malformed key": {dir, func(p *succession.Predecessor) { p.Key = "x" }, 3, "key in entry 0"},
	} {
		p := succession.New(vkey, c, nil)
		if tt.change != nil {
			tt.change(p)
		}
		skey, newKey, err := note.GenerateKey(rand.Reader, "audit.example/2")
		if err != nil {
			t.Fatal(err)
		}
		d, _, _ := recordAfter(t, skey, newKey, 2, p)
		if tt.below != "" {
			if err := os.CopyFS(filepath.Join(d, succession.Dir), os.DirFS(tt.below)); err != nil {
				t.Fatal(err)
			}
		}
		var out, errs bytes.Buffer
		if code := run([]string{d, "--key", newKey}, &out, &errs); code != tt.code || !strings.Contains(out.String(), tt.says) {
			t.Errorf("%s: exit code %d, want %d, and %q:\n%s%s", name, code, tt.code, tt.says, out.String(), errs.String())
		}
	}
}

// A golden ledger that this version goes on with extends what it was.
func TestAGoldenLedgerThatGoesOnIsGood(t *testing.T) {
	for version, size := range map[string]int{"v1": 10, "v2": 277} {
		dir := filepath.Join(t.TempDir(), "data")
		if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "verify", "testdata", version, "ledger"))); err != nil {
			t.Fatal(err)
		}
		tip, err := os.ReadFile(filepath.Join(dir, trail.TipFile))
		if err != nil {
			t.Fatal(err)
		}
		since := filepath.Join(t.TempDir(), "old.checkpoint")
		if err := os.WriteFile(since, bytes.TrimRight(tip, "\x00"), 0o600); err != nil {
			t.Fatal(err)
		}
		const origin = "ledger.example/prod" // whose key is no secret
		skey, vkey, err := note.GenerateKey(mathrand.NewChaCha8(sha256.Sum256(fmt.Append(nil, origin, 1))), origin)
		if err != nil {
			t.Fatal(err)
		}
		for _, more := range []int{0, 300} {
			if more > 0 {
				recordIn(t, dir, skey, vkey, more, nil)
			}
			var out, errs bytes.Buffer
			if code := run([]string{dir, "--key", vkey, "--since", since}, &out, &errs); code != 0 || !strings.Contains(out.String(), fmt.Sprintf("GOOD: %d entries", size+more)) {
				t.Errorf("%s, %d more: exit code %d:\n%s%s", version, more, code, out.String(), errs.String())
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "format"), []byte("3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, errs bytes.Buffer
		if code := run([]string{dir}, &out, &errs); code != 1 || !strings.Contains(errs.String(), "written by a newer Graven") {
			t.Errorf("%s, a later format: exit code %d:\n%s%s", version, code, out.String(), errs.String())
		}
	}
}

func TestASegmentThatWasBegunAndNotUsedIsNoHarm(t *testing.T) {
	dir, vkey, _, _ := record(t, 20)
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log", "00000000000000009999.seg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, text := verdict(dir, "--key", vkey); code != 0 {
		t.Errorf("exit code %d: %s", code, text)
	}
}

func TestZerosThatEndASegmentTakeNoMemory(t *testing.T) {
	dir, vkey, _, _ := record(t, 20)
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.seg"))
	if err == nil {
		err = os.Truncate(segments[len(segments)-1], 256<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	code, text := verdict(dir, "--key", vkey)
	runtime.ReadMemStats(&after)
	if code != 0 {
		t.Errorf("exit code %d: %s", code, text)
	}
	if taken := after.TotalAlloc - before.TotalAlloc; taken > 32<<20 {
		t.Errorf("%d MiB were taken", taken>>20)
	}
}
