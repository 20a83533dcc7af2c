package verify

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
)

// A Kind says in what way something is wrong.
type Kind string

// Kinds of findings.
const (
	// Changed: an entry, or what stands around it, is not what was sealed.
	Changed Kind = "changed"
	// Missing: something that was sealed is gone from the middle.
	Missing Kind = "missing"
	// Reordered: something stands in another's place, or stands twice.
	Reordered Kind = "reordered"
	// CutTail: the end is gone, as a later statement of the ledger itself shows.
	CutTail Kind = "cut tail"
	// Forked: the ledger is not the one that an earlier checkpoint describes.
	Forked Kind = "forked"
	// RolledBack: the ledger is shorter than an earlier checkpoint says.
	RolledBack Kind = "rolled back"
	// BadSignature: a checkpoint is damaged, or its signature is false.
	BadSignature Kind = "bad signature"
	// WrongKey: something is signed by, or names, another key.
	WrongKey Kind = "wrong key"
	// DetailsMismatch: erasable content does not match the entry's digests.
	DetailsMismatch Kind = "details do not match"
	// TileMismatch: a hash tile does not match the entries.
	TileMismatch Kind = "tile"
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
	Target string
	// Origin, Size, Root and Checkpoint are those of the newest checkpoint
	// found; without one, they are empty.
	Origin     string
	Size       int64
	Root       trail.Hash
	Checkpoint []byte // signed note
	// Entries and Details count what was checked; Erased counts entries
	// whose erasable content is gone.
	Entries, Details, Erased int64
	// Authenticated means that a key given from outside signs the checkpoint.
	// Otherwise the ledger agrees with itself at best.
	Authenticated bool
	Findings      []Finding // by index; those that concern no entry come first
	Omitted       int64     // findings beyond the bound
	Notes         []string  // worth knowing, and not wrong
	Unproven      []string  // what this verification did not show
}

// OK reports whether nothing was found to be wrong.
func (r *Report) OK() bool { return len(r.Findings) == 0 && r.Omitted == 0 }

// MarshalJSON writes the report with the checkpoint as text.
func (r *Report) MarshalJSON() ([]byte, error) {
	list := func(s []string) []string { return append([]string{}, s...) }
	return json.Marshal(struct {
		Target        string     `json:"target"`
		OK            bool       `json:"ok"`
		Authenticated bool       `json:"authenticated"`
		Origin        string     `json:"origin"`
		Size          int64      `json:"size"`
		Root          trail.Hash `json:"root"`
		Checkpoint    string     `json:"checkpoint"`
		Entries       int64      `json:"entries"`
		Details       int64      `json:"details"`
		Erased        int64      `json:"erased"`
		Findings      []Finding  `json:"findings"`
		Omitted       int64      `json:"omitted"`
		Notes         []string   `json:"notes"`
		Unproven      []string   `json:"unproven"`
	}{
		r.Target, r.OK(), r.Authenticated, r.Origin, r.Size, r.Root, string(r.Checkpoint), r.Entries, r.Details, r.Erased,
		append([]Finding{}, r.Findings...), r.Omitted, list(r.Notes), list(r.Unproven),
	})
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
	// EverySignature has the signature of every checkpoint in a directory
	// checked, also where there are more than 20,000. By default, some of
	// them are passed over then, and the report says how many.
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
	r.Entries, r.Details, r.Erased = r.Entries+o.Entries, r.Details+o.Details, r.Erased+o.Erased
}

// report returns the finished report.
func (r *reporter) report() *Report {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int {
		if a.Index != b.Index {
			return int(max(min(a.Index-b.Index, 1), -1))
		}
		return strings.Compare(a.Where, b.Where)
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
