package backup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/succession"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// VerifyPredecessor adds to the report of the ledger in dir what becomes of the
// link to its predecessor: the first entry names it and its newest checkpoint,
// and what is kept below dir must be good, and end with that.
func VerifyPredecessor(ctx context.Context, dir string, o verify.Options, r *verify.Report) error {
	entry, err := firstEntry(dir)
	if err != nil || entry == nil {
		return err // what is wrong with an entry, the report says
	}
	p, err := succession.Parse(entry)
	add := func(kind verify.Kind, where, format string, args ...any) {
		r.Findings = append(r.Findings, verify.Finding{Kind: kind, Index: -1, Where: where, Message: fmt.Sprintf(format, args...)})
	}
	if err != nil {
		add(verify.WrongKey, trail.LogDir, "what the first entry says of a predecessor does not hold: %v", err)
		return nil
	}
	if p == nil {
		return nil
	}
	r.Notes = append(r.Notes, fmt.Sprintf("it succeeds the ledger %s, which ends here at %d entries; %s", p.Origin, p.Size, p.Lost))
	below := filepath.Join(dir, succession.Dir)
	if _, err := os.Stat(below); errors.Is(err, fs.ErrNotExist) {
		r.Unproven = append(r.Unproven, fmt.Sprintf("the predecessor is not kept in %s, so that its %d entries were not checked", succession.Dir, p.Size))
		return nil
	}
	key, err := trail.ParseKey(p.Key)
	if err != nil {
		return err
	}
	sub, err := verify.Dir(ctx, below, verify.Options{Keys: []note.Verifier{key}, Since: [][]byte{[]byte(p.Checkpoint)},
		EverySignature: o.EverySignature, Workers: o.Workers, MaxFindings: o.MaxFindings, Progress: o.Progress})
	if errors.Is(err, datadir.ErrUnfinished) {
		r.Unproven = append(r.Unproven, fmt.Sprintf("the predecessor in %s was not checked: %v", succession.Dir, datadir.ErrUnfinished))
		return nil
	}
	if err != nil {
		return err
	}
	if sub.OK() && (sub.Size != p.Size || sub.Root != p.Root) {
		add(verify.Changed, succession.Dir, "the predecessor has %d entries, and the first entry here names %d", sub.Size, p.Size)
	}
	if err := VerifyPredecessor(ctx, below, o, sub); err != nil {
		return err
	}
	for _, f := range sub.Findings {
		f.Index, f.Message, f.Where = -1, placed(f), succession.Dir+"/"+f.Where
		r.Findings = append(r.Findings, f)
	}
	r.Omitted += sub.Omitted
	for _, text := range sub.Unproven {
		r.Unproven = append(r.Unproven, succession.Dir+": "+text)
	}
	if sub.OK() {
		r.Notes = append(r.Notes, fmt.Sprintf("%s is that ledger: %d entries, %d with details, all good", succession.Dir, sub.Entries, sub.Details))
	}
	return nil
}

// placed names the entry of the predecessor in a finding's message, since the
// report's own indexes are of the successor.
func placed(f verify.Finding) string {
	if f.Index < 0 {
		return f.Message
	}
	return fmt.Sprintf("entry %d of the predecessor: %s", f.Index, f.Message)
}

// firstEntry returns a ledger's first entry, or nil if it cannot be read.
func firstEntry(dir string) ([]byte, error) {
	log, err := seglog.Open(filepath.Join(dir, trail.LogDir), seglog.Options{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	body, err := log.ReadFrame(0, seglog.FirstOffset)
	if err := log.Close(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, nil
	}
	r, err := trail.ParseFrame(body)
	if err != nil {
		return nil, nil
	}
	return r.Entry, nil
}
