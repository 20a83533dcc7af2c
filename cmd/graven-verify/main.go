// Command graven-verify checks a Graven ledger with nothing but its public
// key: a data directory, a file that "graven export" wrote, or an evidence package.
//
// It is a second opinion. It shares the formats with Graven (packages event,
// trail, evidence and cosign) and nothing else, and is meant to be read before it is run. It
// stops where a file no longer makes sense; "graven verify" goes on and
// explains more.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/tombstone"
	"github.com/graven-audit/graven/trail"
)

// version is set when the program is built.
var version = "dev"

const usage = `Usage: graven-verify [--key KEY] [--since CHECKPOINT]
                     [--witness KEY]... [--threshold N] TARGET

TARGET is a data directory, a file that 'graven export' wrote, or an evidence
package that 'graven evidence' wrote, of which every file is checked. KEY is the
ledger's public key, or a file with it, from a source you trust; without it the
ledger can only be found to agree with itself. CHECKPOINT is a file with a
checkpoint that was seen earlier, which the ledger must extend; whether the
ledger of a filtered export does can be told only at the export's own size.
With either of them, an export that does not end with a checkpoint fails.
With --witness, the public key of a witness or a file with it, N of the given
witnesses (all, unless told) must have cosigned a checkpoint of the ledger.

Exit codes: 0 nothing wrong, 1 error, 2 usage, 3 verification failed.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run runs one command line and returns its exit code.
func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("graven-verify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stderr, usage) }
	key := flags.String("key", "", "")
	earlier := flags.String("since", "", "")
	var witnesses []string
	flags.Func("witness", "", func(s string) error { witnesses = append(witnesses, s); return nil })
	threshold := flags.Int("threshold", 0, "")
	showVersion := flags.Bool("version", false, "")
	var targets []string
	for len(args) > 0 { // flags may stand behind the target
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return 0
		} else if err != nil {
			return 2
		}
		if args = flags.Args(); len(args) > 0 {
			targets, args = append(targets, args[0]), args[1:]
		}
	}
	if *showVersion {
		fmt.Fprintln(stdout, "graven-verify "+version)
		return 0
	}
	if len(targets) != 1 {
		flags.Usage()
		return 2
	}
	v := &verifier{out: stdout, roots: map[int64][]known{}}
	since, err := v.setFlags(*key, *earlier, witnesses, *threshold)
	if err != nil {
		fmt.Fprintln(stderr, "graven-verify:", printable(err.Error()))
		return 2
	}
	if err := v.run(targets[0], since); err != nil {
		fmt.Fprintln(stderr, "graven-verify:", printable(err.Error()))
		return 1
	}
	if v.wrong > 0 {
		fmt.Fprintf(stdout, "FAILED: %d findings\n", v.wrong)
		return 3
	}
	v.good()
	return 0
}

// good prints the verdict, and what it does not say.
func (v *verifier) good() {
	if v.parcel != nil {
		v.parcel.good()
		return
	}
	if v.whole {
		fmt.Fprintf(v.out, "GOOD: %d entries, root %s\n", v.tree.Size(), v.tree.Root())
	} else {
		fmt.Fprintf(v.out, "GOOD: %d entries, each with its proof\n", v.count)
	}
	v.unproven(!v.whole)
}

// unproven says what the verdict does not.
func (v *verifier) unproven(filtered bool) {
	switch {
	case v.key == nil:
		fmt.Fprintln(v.out, "unproven: no key was given (--key), so that no signature was checked")
	case !v.trusted:
		fmt.Fprintln(v.out, "unproven: self-consistent, key not authenticated (--key does that)")
	}
	switch {
	case v.checkpoint == nil:
		fmt.Fprintln(v.out, "unproven: there is no checkpoint, so that nothing shows that the end was not cut off")
	case v.since == nil:
		fmt.Fprintln(v.out, "unproven: no earlier checkpoint was given (--since), so that an older copy would pass")
	case !v.whole && v.since.Size < v.checkpoint.Size:
		fmt.Fprintf(v.out, "unproven: the earlier checkpoint of %d entries could not be compared with a filtered export\n", v.since.Size)
	}
	if filtered {
		fmt.Fprintln(v.out, "unproven: the export is filtered; it cannot show that it has everything that matches")
	}
}

// A verifier is one run.
type verifier struct {
	out     io.Writer
	key     note.Verifier // nil until it is known
	trusted bool          // the key came from outside

	tree       trail.Tree
	chain      trail.Hash
	checkpoint *trail.Checkpoint // the newest that was found good
	since      *trail.Checkpoint // the earlier one that was given
	policy     cosign.Policy
	cosigned   *trail.Checkpoint // that witnesses have signed
	roots      map[int64][]known // by size: what the tree must have been
	whole      bool              // the target holds the ledger from entry 0
	count      int64
	last       int64 // index in the line before, of a filtered export
	wrong      int
	manifest   *manifest // nil unless it is a backup
	gap        bool      // entries are missing, or out of order
	first      []byte    // entry 0
	absence    tombstone.Absence
	parcel     *parcel // nil unless it is an evidence package that was found good
}

// isZip reports whether a file begins as a zip file does.
func isZip(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	magic := make([]byte, 4)
	_, err = io.ReadFull(f, magic)
	return err == nil && string(magic) == "PK\x03\x04"
}

// known is a root that something outside the entries tells of.
type known struct {
	root trail.Hash
	who  string
}

func (v *verifier) found(format string, args ...any) {
	if v.wrong++; v.wrong <= 100 {
		fmt.Fprintln(v.out, "WRONG", printable(fmt.Sprintf(format, args...)))
	}
}

// setFlags takes what the command line says, and returns the earlier checkpoint.
func (v *verifier) setFlags(key, earlier string, witnesses []string, threshold int) (since []byte, err error) {
	if key != "" {
		text, err := os.ReadFile(key)
		if err != nil {
			text = []byte(key)
		}
		if err := v.setKey(text); err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		v.trusted = true
	}
	if earlier != "" {
		if since, err = os.ReadFile(earlier); err == nil {
			_, err = trail.ReadCheckpoint(since)
		}
		if err != nil {
			return nil, fmt.Errorf("--since: %w", err)
		}
	}
	return since, v.setPolicy(witnesses, threshold)
}

func (v *verifier) run(target string, since []byte) error {
	info, err := os.Stat(target)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := checkFiles(target); err != nil {
			return err
		}
		if v.manifest, err = v.readManifest(target); err != nil {
			return err
		}
	}
	if info.IsDir() && v.key == nil {
		text, err := readSmall(filepath.Join(target, trail.VKeyFile))
		if err == nil {
			err = v.setKey(text)
		}
		if err != nil {
			return err
		}
	}
	if since != nil {
		v.since = v.expect(since, "the earlier checkpoint")
	}
	switch {
	case info.IsDir():
		err = v.directory(target)
	case isZip(target):
		err = v.evidence(target)
	default:
		err = v.export(target)
	}
	if err != nil {
		return err
	}
	v.beyond()
	v.absent()
	v.witnessed()
	return nil
}

// beyond finds entries that something tells of, and that are not there.
func (v *verifier) beyond() {
	for size, list := range v.roots {
		for _, k := range list {
			if size > v.tree.Size() && v.whole {
				v.found("%s speaks of %d entries, there are %d", k.who, size, v.tree.Size())
			}
		}
	}
}

// setPolicy reads the witnesses' keys.
func (v *verifier) setPolicy(args []string, threshold int) error {
	for _, a := range args {
		text, err := os.ReadFile(a)
		if err != nil {
			text = []byte(a)
		}
		w, err := cosign.ParseWitness(strings.TrimSpace(string(text)))
		if err != nil {
			return fmt.Errorf("--witness: %w", err)
		}
		v.policy.Witnesses = append(v.policy.Witnesses, w)
	}
	if v.policy.Need = threshold; threshold == 0 {
		v.policy.Need = len(args)
	}
	if err := v.policy.Check(); err != nil {
		return fmt.Errorf("--witness, --threshold: %w", err)
	}
	return nil
}

// witnessed holds the cosigned checkpoint against the policy. That the ledger
// extends it is checked elsewhere.
func (v *verifier) witnessed() {
	if v.policy.Need == 0 {
		return
	}
	if v.cosigned == nil {
		v.found("there is no checkpoint that witnesses have cosigned")
		return
	}
	by, err := v.policy.Cosigned(v.cosigned.Note)
	switch of := len(v.policy.Witnesses); {
	case err != nil:
		v.found("the cosigned checkpoint: %v", err)
	case len(by) < v.policy.Need:
		v.found("%d of %d witnesses should have cosigned the checkpoint of %d entries, %d did", v.policy.Need, of, v.cosigned.Size, len(by))
	case v.wrong > 0: // it may be another ledger that they have seen
	default:
		fmt.Fprintf(v.out, "witnessed up to entry %d by %d of %d\n", v.cosigned.Size-1, len(by), of)
		if c := v.checkpoint; c != nil && c.Size > v.cosigned.Size {
			fmt.Fprintf(v.out, "note: entries %d to %d are not witnessed yet\n", v.cosigned.Size, c.Size-1)
		}
	}
}

func (v *verifier) setKey(text []byte) (err error) {
	v.key, err = note.NewVerifier(strings.TrimSpace(string(text)))
	return err
}

// open reads a signed checkpoint. Without a key it is taken at its word.
func (v *verifier) open(text []byte) (*trail.Checkpoint, error) {
	if v.key == nil {
		return trail.ReadCheckpoint(text)
	}
	return trail.OpenCheckpoint(text, v.key)
}

// expect demands that the ledger extends a checkpoint.
func (v *verifier) expect(text []byte, who string) *trail.Checkpoint {
	c, err := v.open(text)
	if err != nil {
		v.found("%s: %v", who, err)
		return nil
	}
	v.roots[c.Size] = append(v.roots[c.Size], known{c.Root, who})
	return c
}

// add takes the next entry into chain and tree.
func (v *verifier) add(r *trail.Record, done func(level int, n int64, h trail.Hash)) {
	if v.chain = r.Link(v.chain); v.chain != r.Chain {
		v.found("entry %d does not follow from the one before it", r.Index)
		v.chain = r.Chain
	}
	if v.tree.Size() == 0 {
		v.first = bytes.Clone(r.Entry)
	}
	v.tree.Append(r.LeafHash(), done)
	for _, k := range v.roots[v.tree.Size()] {
		if k.root != v.tree.Root() {
			v.found("%s has another root at %d entries: they are not the same ledger", k.who, v.tree.Size())
		}
	}
	v.count++
}

// content takes what a check of a record's erasable content has given. That
// passes content which is gone; tombstones are to allow it.
func (v *verifier) content(r *trail.Record, err error) {
	if err != nil {
		v.found("entry %d: %v", r.Index, err)
		return
	}
	v.absence.Entry(r.Index, r.Chain, r.Entry, r.Erasable == nil, r.Leaf != nil)
}

// absent finds entries that are gone, or whose content is, though no tombstone
// names them.
func (v *verifier) absent() {
	v.absence.Unnamed(math.MaxInt64, func(index int64, why error) bool {
		v.found("entry %d: %v", index, why)
		return true
	})
	if err := v.absence.Agrees(); err != nil {
		v.found("%v", err)
	}
	below, pruned := v.absence.Below()
	if pruned > 0 {
		fmt.Fprintf(v.out, "note: %d of the entries below %d were erased, as a tombstone in the ledger says; their hashes are left\n", pruned, below)
	}
	if n := v.absence.Named() - pruned; n > 0 {
		fmt.Fprintf(v.out, "note: the details of %d entries were erased, as tombstones in the ledger say\n", n)
	}
}

// signed checks a checkpoint that covers all entries so far.
func (v *verifier) signed(text []byte) {
	c, err := v.open(text)
	switch {
	case err != nil:
		v.found("the checkpoint after entry %d: %v", v.tree.Size()-1, err)
	case c.Size != v.tree.Size() || c.Root != v.tree.Root():
		v.found("the checkpoint after entry %d is not that of these %d entries", v.tree.Size()-1, v.tree.Size())
	default:
		v.checkpoint = c
		v.absence.Seal(c.Size)
	}
}

// printable replaces what a terminal would act upon.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e {
			return '?'
		}
		return r
	}, s)
}
