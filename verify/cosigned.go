package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/trail"
)

// Witnessed is what witnesses say about a ledger, by its newest cosigned
// checkpoint.
type Witnessed struct {
	// Size is how many entries the checkpoint covers.
	Size int64 `json:"size"`
	// By are the ids of the policy's witnesses that have cosigned it. Without
	// a policy no cosignature is checked, and there are none.
	By []string `json:"by"`
}

// A cosigned is a cosigned checkpoint as it was found.
type cosigned struct {
	text  []byte // nil where there is none
	where string
}

// expect opens a cosigned checkpoint and returns it as one that the ledger must
// extend, or nil where there is nothing to compare.
func (w *cosigned) expect(rep *reporter, keys *keyring) []earlier {
	if w.text == nil {
		return nil
	}
	s := keys.open(w.text, true)
	if s.fault != "" {
		rep.add(s.fault, -1, w.where, "the cosigned checkpoint: %s", s.reason)
		w.text = nil
		return nil
	}
	return []earlier{{s, fmt.Sprintf("the cosigned checkpoint of %d entries", s.Size), w.where, false}}
}

// judge holds the cosignatures against the policy, once it is known whether the
// checkpoint is one of the ledger's.
func (w *cosigned) judge(rep *reporter, p cosign.Policy) {
	for _, f := range rep.Findings {
		if f.Where == w.where {
			w.text = nil
		}
	}
	c, _ := trail.ReadCheckpoint(w.text)
	if c == nil {
		if p.Need > 0 {
			rep.add(Unwitnessed, -1, w.where, "%d of %d witnesses should have cosigned the ledger, and there is no checkpoint that they have", p.Need, len(p.Witnesses))
		}
		return
	}
	by, err := p.Cosigned(c.Note)
	switch {
	case err != nil:
		rep.add(BadSignature, -1, w.where, "the cosigned checkpoint of %d entries: %v", c.Size, err)
		return
	case len(by) < p.Need:
		rep.add(Unwitnessed, -1, w.where, "%d of %d witnesses should have cosigned the checkpoint of %d entries, and %d %s",
			p.Need, len(p.Witnesses), c.Size, len(by), plural(int64(len(by)), "has", "have"))
	case p.Need == 0:
		if ids, _ := trail.Signers(c.Note); len(ids) < 2 {
			return // a server shows an older checkpoint until one is cosigned
		}
		rep.note("witnesses have cosigned the ledger up to entry %d; their signatures were not checked, for no witness's key was given", c.Size-1)
	default:
		rep.note("witnessed up to entry %d by %d of %d", c.Size-1, len(by), len(p.Witnesses))
	}
	rep.Witnessed = &Witnessed{Size: c.Size, By: []string{}}
	for _, key := range by {
		rep.Witnessed.By = append(rep.Witnessed.By, key.ID())
	}
	if p.Need > 0 && c.Size < rep.Size {
		rep.note("%s %s not witnessed yet", entries(c.Size, rep.Size), plural(rep.Size-c.Size, "is", "are"))
	}
}

// fetchCheckpoints gets a log's newest checkpoint, and the one that it shows to
// everybody if that is another: the newest that witnesses have cosigned. That
// comes first, so that the newest is no older.
func fetchCheckpoints(ctx context.Context, fetch Fetch) (newest []byte, w cosigned, err error) {
	w.where = "the checkpoint that is shown"
	shown, err := fetch(ctx, "checkpoint")
	if err != nil {
		return nil, w, err
	}
	newest, err = fetch(ctx, NewestPath)
	if errors.Is(err, fs.ErrNotExist) { // some other software's log
		newest, err = shown, nil
	}
	if ids, _ := trail.Signers(shown); len(ids) > 1 || string(shown) != string(newest) {
		w.text = shown
	}
	return newest, w, err
}

// NewestPath is where a log gives its newest checkpoint, be it cosigned or not.
const NewestPath = "checkpoint?newest=true"

// checkCosigned holds an export's cosigned checkpoint against its newest.
func (x *export) checkCosigned(at place) {
	w := cosigned{where: at.String() + ": cosigned"}
	if x.trailer != nil && x.trailer.Cosigned != "" {
		w.text = []byte(x.trailer.Cosigned)
		for _, e := range w.expect(x.rep, x.keys) {
			if x.seal.Note == nil {
				w.text = nil
			} else if err := x.trailer.CheckExtends(&x.seal.Checkpoint); err != nil {
				x.rep.add(Forked, 0, w.where, "%s: %v", e.what, err)
			}
		}
	}
	w.judge(x.rep, x.o.Witnesses)
}
