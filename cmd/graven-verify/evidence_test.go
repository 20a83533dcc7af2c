package main

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/trail"
)

// A pack is a small evidence package, made by hand.
type pack struct {
	key    string
	signer note.Signer
	files  map[string][]byte
	names  []string
	c      evidence.Contents
}

func (p *pack) set(name string, text []byte) {
	if _, ok := p.files[name]; !ok {
		p.names = append(p.names, name)
	}
	p.files[name] = text
}

// newPack makes a package of the events 3 to 6 of a ledger of ten.
func newPack(t *testing.T) *pack {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "example.org/ledger")
	if err != nil {
		t.Fatal(err)
	}
	p := &pack{key: public, files: map[string][]byte{}}
	if p.signer, err = note.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	var all hashes
	var records []trail.Record
	var events []*event.Event
	var chain trail.Hash
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for n := range int64(10) {
		e := &event.Event{ID: event.DeriveID("pack", string(rune('a'+n))), EventType: "IssueCreated", Timestamp: begin.Add(time.Duration(n) * time.Hour),
			Actor: event.Actor{Type: event.ActorController, Name: "c"}, Resource: event.Resource{Kind: "Issue", Namespace: "production", Name: "i"}}
		if err := e.SetDetails(map[string]any{"n": n}); err != nil {
			t.Fatal(err)
		}
		e.Complete(e.Timestamp)
		e.Recorded = event.Recorded{At: e.Timestamp, Principal: "p", Via: "token", Attribution: event.AttributionAsserted}
		salt := event.Salt{byte(n + 1)}
		r := trail.Record{Index: n, Entry: e.AppendEntry(nil, e.Digests(salt)), Salt: salt, Erasable: e.AppendErasable(nil)}
		chain = r.Link(chain)
		r.Chain = chain
		added, err := tlog.StoredHashes(n, r.Entry, all)
		if err != nil {
			t.Fatal(err)
		}
		all, records, events = append(all, added...), append(records, r), append(events, e)
	}
	root, err := tlog.TreeHash(10, all)
	if err != nil {
		t.Fatal(err)
	}
	cp, err := trail.SignCheckpoint("example.org/ledger", 10, root, p.signer)
	if err != nil {
		t.Fatal(err)
	}
	var lines, bundle []byte
	for n := int64(3); n < 7; n++ {
		proof, err := tlog.ProveRecord(10, n, all)
		if err != nil {
			t.Fatal(err)
		}
		l := trail.Line{Event: events[n], Record: records[n], Previous: records[n-1].Chain, Proof: proof}
		lines = l.Append(lines)
	}
	for n := int64(1); n < 10; n++ {
		bundle = trail.AppendBundled(bundle, records[n].Entry)
	}
	trailer, err := json.Marshal(trail.Trailer{Checkpoint: string(cp.Note), Filter: map[string]string{"from": "2026-03-01T03:00:00Z"}, Count: 4})
	if err != nil {
		t.Fatal(err)
	}
	span, err := evidence.NewSpan(all, 1, 10)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(span)
	if err != nil {
		t.Fatal(err)
	}
	p.c = evidence.Contents{Ledger: evidence.LedgerOf(cp), Filter: evidence.Filter{From: begin.Add(3 * time.Hour), To: begin.Add(7 * time.Hour)}, Framework: "soc2",
		Events: 4, Lines: 4, Population: 2, Complete: true, First: 1}
	p.set(evidence.EventsFile, append(append(lines, trailer...), '\n'))
	p.set(evidence.EntriesFile, bundle)
	p.set(evidence.SpanFile, text)
	p.set(evidence.CheckpointFile, cp.Note)
	p.set(evidence.KeyFile, []byte(public+"\n"))
	p.set(evidence.PopulationFile, []byte("check,result\r\na,\"pas\nsed\"\r\n"))
	return p
}

type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		list[i] = h[index]
	}
	return list, nil
}

// sign names every file in the statement.
func (p *pack) sign(t *testing.T) {
	t.Helper()
	var subjects []evidence.Subject
	for _, name := range p.names {
		if !strings.HasPrefix(name, "manifest") {
			subjects = append(subjects, evidence.Digest(name, sha(p.files[name])))
		}
	}
	s, err := evidence.NewStatement(evidence.PackageType, subjects, p.c)
	if err != nil {
		t.Fatal(err)
	}
	plain, envelope, err := evidence.Sign(s, p.signer)
	if err != nil {
		t.Fatal(err)
	}
	p.set(evidence.ManifestFile, plain)
	p.set(evidence.EnvelopeFile, envelope)
}

// verify writes the package and returns what graven-verify says of it.
func (p *pack) verify(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "package.zip")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for _, name := range p.names {
		w, err := z.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(p.files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	code = run(append(args, path), &out, io.Discard)
	return code, out.String()
}

func TestAnEvidencePackageIsGoodAndSaysWhatItDoesNotShow(t *testing.T) {
	p := newPack(t)
	p.sign(t)
	code, said := p.verify(t, "--key", p.key)
	for _, want := range []string{"GOOD: 6 files as they were signed, 4 events", "complete: of entries 1 to 9 every event from 2026-03-01T03:00:00Z",
		"unproven: that no entry before 1", "unproven: that the sources told everything", "unproven: who made it and when", "unproven: no earlier checkpoint"} {
		if code != 0 || !strings.Contains(said, want) {
			t.Errorf("exit %d, without %q:\n%s", code, want, said)
		}
	}
	if code, said := p.verify(t); code != 0 || !strings.Contains(said, "key not authenticated") {
		t.Errorf("without a key: exit %d\n%s", code, said)
	}
	slim := newPack(t)
	slim.c.Complete = false
	slim.sign(t)
	if code, said := slim.verify(t, "--key", slim.key); code != 0 || !strings.Contains(said, "filter completeness not proven") {
		t.Errorf("a slim one: exit %d\n%s", code, said)
	}
}

func TestWhateverIsChangedInAPackageIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name, says string
		change     func(t *testing.T, p *pack)
	}{
		{"a cell", "population.csv was changed", func(_ *testing.T, p *pack) {
			p.files[evidence.PopulationFile] = bytes.Replace(p.files[evidence.PopulationFile], []byte("pas"), []byte("fai"), 1)
		}},
		{"an event", "events.ndjson was changed", func(_ *testing.T, p *pack) {
			p.files[evidence.EventsFile] = bytes.Replace(p.files[evidence.EventsFile], []byte("IssueCreated"), []byte("IssueResolve"), 1)
		}},
		{"a count", "manifest.json is not what was signed", func(_ *testing.T, p *pack) {
			p.files[evidence.ManifestFile] = bytes.Replace(p.files[evidence.ManifestFile], []byte(`"events": 4`), []byte(`"events": 5`), 1)
		}},
		{"a file too many", "extra.txt is not named", func(_ *testing.T, p *pack) { p.set("extra.txt", nil) }},
		{"a file too few", "proofs/span.json is missing", func(_ *testing.T, p *pack) {
			p.names = strings.Fields(strings.Replace(strings.Join(p.names, " "), evidence.SpanFile, "", 1))
		}},
		{"a file twice", "keys/ledger.vkey stands twice", func(_ *testing.T, p *pack) { p.names = append(p.names, evidence.KeyFile) }},
		{"another's signature", "no signature by the ledger's key", func(t *testing.T, p *pack) {
			other := newPack(t)
			p.signer = other.signer
			p.sign(t)
		}},
		{"an event left out by who signs", "entry 4 (IssueCreated) matches what was asked for, and is not in", func(t *testing.T, p *pack) {
			lines := bytes.SplitAfter(p.files[evidence.EventsFile], []byte("\n"))
			trailer := bytes.Replace(lines[4], []byte(`"count":4`), []byte(`"count":3`), 1)
			p.files[evidence.EventsFile] = bytes.Join([][]byte{lines[0], lines[2], lines[3], trailer}, nil)
			p.c.Events = 3
			p.sign(t)
		}},
		{"an entry left out by who signs", "there are 8 entries from 1 on, there should be 9", func(t *testing.T, p *pack) {
			first := 2 + int(p.files[evidence.EntriesFile][0])<<8 + int(p.files[evidence.EntriesFile][1])
			p.files[evidence.EntriesFile] = p.files[evidence.EntriesFile][first:]
			p.sign(t)
		}},
		{"an entry changed by who signs", "are not the entries that the checkpoint was signed for", func(t *testing.T, p *pack) {
			p.files[evidence.EntriesFile] = bytes.Replace(p.files[evidence.EntriesFile], []byte("production"), []byte("productiom"), 1)
			p.sign(t)
		}},
		{"an event that was not asked for", "is not what was asked for", func(t *testing.T, p *pack) {
			p.c.Filter.To = p.c.Filter.To.Add(-time.Hour)
			p.c.Events = 3
			p.sign(t)
		}},
		{"a number of lines", "population.csv has 2 lines, signed were 3", func(t *testing.T, p *pack) {
			p.c.Population = 3
			p.sign(t)
		}},
		{"another state of the ledger", "different states", func(t *testing.T, p *pack) {
			p.c.Ledger.Size = 9
			p.sign(t)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPack(t)
			p.sign(t)
			tt.change(t, p)
			code, said := p.verify(t, "--key", p.key)
			if code != 3 || !strings.Contains(said, tt.says) {
				t.Errorf("exit %d, without %q:\n%s", code, tt.says, said)
			}
		})
	}
}

func TestAFileThatOnlyBeginsAsAPackageIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.zip")
	if err := os.WriteFile(path, []byte("PK\x03\x04 and no more"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{path}, io.Discard, io.Discard); code != 1 {
		t.Errorf("exit %d", code)
	}
}

func sha(text []byte) [sha256.Size]byte { return sha256.Sum256(text) }
