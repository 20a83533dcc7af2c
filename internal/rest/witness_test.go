package rest_test

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// cosigners stand in for the witnesses of a ledger.
type cosigners struct {
	cosigned atomic.Pointer[trail.Checkpoint]
	key      *cosign.Cosigner
	refusing []string
}

func (w *cosigners) Cosigned() *trail.Checkpoint { return w.cosigned.Load() }
func (w *cosigners) Refusing() []string          { return w.refusing }

func (w *cosigners) Shown(newest *trail.Checkpoint) *trail.Checkpoint {
	if c := w.Cosigned(); c != nil {
		return c
	}
	return newest
}

// cosign signs a checkpoint.
func (w *cosigners) cosign(t *testing.T, c *trail.Checkpoint) {
	t.Helper()
	line, err := note.Sign(&note.Note{Text: c.Text()}, w.key)
	if err != nil {
		t.Fatal(err)
	}
	signed := *c
	signed.Note = append([]byte(string(c.Note)), line[len(c.Text())+1:]...)
	w.cosigned.Store(&signed)
}

func newCosigners(t *testing.T) *cosigners {
	t.Helper()
	text, err := cosign.GenerateKey(rand.Reader, "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := cosign.NewCosigner(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &cosigners{key: key, refusing: []string{}}
}

// TestReadersGetWhatWitnessesHaveCosigned asks for checkpoint, proofs and
// exports before and behind a cosigned checkpoint.
func TestReadersGetWhatWitnessesHaveCosigned(t *testing.T) {
	w := newCosigners(t)
	d := open(t, change{rest: func(c *rest.Config) { c.Witnesses = w }})
	auditor := d.as("auditor")
	before := d.as("recorder").record(storetest.Event(1), storetest.Event(2))
	first := d.ledger.State().Checkpoint
	open := func(a *answer) (*trail.Checkpoint, int) {
		t.Helper()
		a.want(http.StatusOK)
		c, err := trail.OpenCheckpoint(a.body, d.bed.Verifier)
		if err != nil {
			t.Fatal(err)
		}
		by, err := (cosign.Policy{Witnesses: []*cosign.Witness{w.key.Witness}, Need: 1}).Cosigned(a.body)
		if err != nil {
			t.Fatal(err)
		}
		return c, len(by)
	}
	if c, by := open(auditor.get("/log/checkpoint")); c.Size < first.Size || by != 0 {
		t.Errorf("before anybody signs: %d by %d", c.Size, by)
	}
	if body := auditor.get("/readyz").body; !strings.Contains(string(body), `"witnessed":0,"refusing":[]`) {
		t.Errorf("%s", body)
	}
	w.cosign(t, first)
	w.refusing = []string{`a "name"`}
	behind := d.as("recorder").record(storetest.Event(3))

	if c, by := open(auditor.get("/log/checkpoint")); c.Size != first.Size || by != 1 {
		t.Errorf("%d by %d, want %d", c.Size, by, first.Size)
	}
	if c, by := open(auditor.get("/log/checkpoint?newest=true")); c.Size < behind[0] || by != 0 {
		t.Errorf("the newest is %d by %d", c.Size, by)
	}
	if c, _ := open(auditor.get("/log/checkpoint?newest=false")); c.Size != first.Size {
		t.Errorf("not the newest is %d", c.Size)
	}
	auditor.get("/log/checkpoint?newest=perhaps").problem(http.StatusBadRequest, "newest", "")
	auditor.get("/log/checkpoint?oldest=true").problem(http.StatusBadRequest, "oldest", "")
	if body := auditor.get("/readyz").body; !strings.Contains(string(body), fmt.Sprintf(`"witnessed":%d,"refusing":["a \"name\""]`, first.Size)) {
		t.Errorf("%s", body)
	}

	for index, want := range map[int64]int{before[0]: 1, first.Size - 1: 1, behind[0]: 0} {
		a := auditor.get(fmt.Sprintf("/api/v1/audit/events/%d/proof", index)).want(http.StatusOK)
		p, err := trail.ParseProof(a.body)
		if err != nil {
			t.Fatal(err)
		}
		r, err := d.store.Record(t.Context(), index)
		if err != nil {
			t.Fatal(err)
		}
		if c, err := p.Verify(r.Entry, d.bed.Verifier); err != nil || c.Size <= index {
			t.Errorf("entry %d: %v", index, err)
		}
		by, err := (cosign.Policy{Witnesses: []*cosign.Witness{w.key.Witness}, Need: 1}).Cosigned(p.Checkpoint)
		if err != nil || len(by) != want {
			t.Errorf("entry %d: by %d, %v", index, len(by), err)
		}
	}

	for _, query := range []string{"", "&type=RemediationExecuted", "&limit=2"} {
		a := auditor.get("/api/v1/audit/export?checkpoint=true" + query).want(http.StatusOK)
		lines := strings.Split(strings.TrimSuffix(string(a.body), "\n"), "\n")
		var last trail.Trailer
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
			t.Fatal(err)
		}
		if last.Cosigned != string(w.Cosigned().Note) {
			t.Errorf("%q: cosigned %q", query, last.Cosigned)
		}
		r, err := verify.Export(t.Context(), strings.NewReader(string(a.body)), verify.Options{Keys: []note.Verifier{d.bed.Verifier},
			Witnesses: cosign.Policy{Witnesses: []*cosign.Witness{w.key.Witness}, Need: 1}})
		if err != nil || !r.OK() || r.Witnessed == nil || r.Witnessed.Size != first.Size {
			t.Errorf("%q: %+v, %v", query, r, err)
		}
	}
}

func TestWithoutWitnessesNothingTellsOfThem(t *testing.T) {
	d := open(t)
	d.as("recorder").record(storetest.Event(1))
	auditor := d.as("auditor")
	for _, path := range []string{"/readyz", "/api/v1/audit/export?checkpoint=true"} {
		if body := string(auditor.get(path).want(http.StatusOK).body); strings.Contains(body, "witness") || strings.Contains(body, "cosigned") || strings.Contains(body, "refusing") {
			t.Errorf("%s: %s", path, body)
		}
	}
	if a, b := auditor.get("/log/checkpoint").body, auditor.get("/log/checkpoint?newest=true").body; strings.Count(string(a), "— ") != 1 || len(b) == 0 {
		t.Errorf("%s%s", a, b)
	}
}
