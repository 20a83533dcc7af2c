package verify

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/trail"
)

// A Kind says in what way something is wrong.
type Kind string

// Kinds of findings.
const (
	Changed         Kind = "changed"              // an entry, or what stands around it, is not what was sealed
	Missing         Kind = "missing"              // something is gone from the middle
	Reordered       Kind = "reordered"            // something stands in another's place, or twice
	CutTail         Kind = "cut tail"             // the end is gone, by the ledger's own word
	Forked          Kind = "forked"               // an earlier checkpoint describes another ledger
	RolledBack      Kind = "rolled back"          // an earlier checkpoint describes a longer ledger
	BadSignature    Kind = "bad signature"        // a checkpoint is damaged, or its signature is false
	WrongKey        Kind = "wrong key"            // something is signed by, or names, another key
	DetailsMismatch Kind = "details do not match" // erasable content does not match the entry's digests
	TileMismatch    Kind = "tile"                 // a hash tile does not match the entries
	Unwitnessed     Kind = "not witnessed"        // fewer witnesses have cosigned it than the policy asks for
	// IndexMismatch: the derived index does not match the entries. This
	// package does not read the index; who does reports in its terms.
	IndexMismatch Kind = "index"
)

// A Finding is one thing that is wrong.
type Finding struct {
	Kind Kind `json:"kind"`
	// Index is the entry concerned, the first of several; for a checkpoint
	// it is the last entry that it covers. -1 means none.
	Index int64 `json:"index"`
	// Where is the place: file and byte, line of an export, or path of a log.
	Where   string `json:"where"`
	Message string `json:"message"`
}

// A Report is the outcome of a verification.
type Report struct {
	Target string `json:"target"`
	// Origin, Size, Root and Checkpoint, a signed note, are those of the
	// newest checkpoint found; without one, they are empty.
	Origin     string     `json:"origin"`
	Size       int64      `json:"size"`
	Root       trail.Hash `json:"root"`
	Checkpoint []byte     `json:"checkpoint"`
	// Entries counts what was checked, Details those of them that have theirs.
	Entries int64 `json:"entries"`
	Details int64 `json:"details"`
	// Pruned is the index below which entries were erased, as a tombstone says:
	// their hashes are left.
	Pruned int64 `json:"pruned,omitempty"`
	// Authenticated means that a key given from outside signs the checkpoint.
	// Otherwise the ledger agrees with itself at best.
	Authenticated bool `json:"authenticated"`
	// Witnessed tells of the newest cosigned checkpoint; nil where there is
	// none, or where it is not the ledger's.
	Witnessed *Witnessed `json:"witnessed,omitempty"`
	// Findings come by index; those that concern no entry come first. Omitted
	// counts those beyond the bound.
	Findings []Finding `json:"findings"`
	Omitted  int64     `json:"omitted"`
	// Notes are worth knowing, and not wrong. Unproven is what this
	// verification did not show.
	Notes    []string `json:"notes"`
	Unproven []string `json:"unproven"`
}

// OK reports whether nothing was found to be wrong.
func (r *Report) OK() bool { return len(r.Findings) == 0 && r.Omitted == 0 }

// MarshalJSON writes the report with the verdict, and the checkpoint as text.
func (r *Report) MarshalJSON() ([]byte, error) {
	type fields Report
	f := fields(*r)
	f.Findings = append([]Finding{}, r.Findings...)
	f.Notes, f.Unproven = append([]string{}, r.Notes...), append([]string{}, r.Unproven...)
	return json.Marshal(struct {
		OK bool `json:"ok"`
		fields
		Checkpoint string `json:"checkpoint"`
	}{r.OK(), f, string(r.Checkpoint)})
}

// Options of a verification. The zero value is good for a first look.
type Options struct {
	// Keys are the ledger's keys as the verifier knows them, from outside.
	// Without, the target's own word is taken for its key, so that whoever
	// made the whole ledger anew goes unnoticed.
	Keys []note.Verifier
	// Since are checkpoints, as signed notes, that were seen earlier. The
	// ledger must extend all of them.
	Since [][]byte
	// Witnesses is how many of which witnesses must have cosigned a
	// checkpoint of the ledger. The zero policy asks for none.
	Witnesses cosign.Policy
	// EverySignature has the signatures of more than 20,000 checkpoints in a
	// directory checked, of which some are passed over otherwise.
	EverySignature bool
	// Workers is how many goroutines hash; 0 means one for each processor.
	Workers int
	// MaxFindings bounds the findings that are kept; 0 means 1000.
	MaxFindings int
	// Progress, if not nil, is called now and then by one goroutine with how
	// much of the target was read: bytes, or entries of a remote log.
	Progress func(done, total int64)
}

// A reporter collects a report's findings, up to a bound.
type reporter struct {
	Report
	limit int
}

func newReporter(target string, o Options) *reporter {
	r := &reporter{limit: o.MaxFindings}
	if r.limit <= 0 {
		r.limit = 1000
	}
	r.Target = target
	return r
}

// add adds a finding and returns its place in Findings, or -1 where there is
// no room for it.
func (r *reporter) add(kind Kind, index int64, where, format string, args ...any) int {
	if len(r.Findings) >= r.limit {
		r.Omitted++
		return -1
	}
	r.Findings = append(r.Findings, Finding{kind, index, where, fmt.Sprintf(format, args...)})
	return len(r.Findings) - 1
}

func (r *reporter) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *reporter) unproven(format string, args ...any) {
	r.Unproven = append(r.Unproven, fmt.Sprintf(format, args...))
}

// merge adds what another reporter has found and counted.
func (r *reporter) merge(o *reporter) {
	room := min(r.limit-len(r.Findings), len(o.Findings))
	r.Findings = append(r.Findings, o.Findings[:room]...)
	r.Omitted += o.Omitted + int64(len(o.Findings)-room)
	r.Notes, r.Unproven = append(r.Notes, o.Notes...), append(r.Unproven, o.Unproven...)
	r.Entries, r.Details = r.Entries+o.Entries, r.Details+o.Details
}

// report returns the finished report.
func (r *reporter) report() *Report {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), strings.Compare(a.Where, b.Where))
	})
	return &r.Report
}

// entries names the entries from first up to, not including, end.
func entries(first, end int64) string {
	if end-first == 1 {
		return fmt.Sprintf("entry %d", first)
	}
	return fmt.Sprintf("entries %d to %d", first, end-1)
}

// plural adds what English adds to a verb or noun that goes with n of them.
func plural(n int64, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}
