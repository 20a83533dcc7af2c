package terminal

import (
	"bytes"
	"fmt"
	"io"

	"github.com/graven-audit/graven/verify"
)

// PrintReport writes the outcome of a verification.
func PrintReport(w io.Writer, r *verify.Report) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s\n", Printable(r.Target))
	if r.Origin != "" {
		fmt.Fprintf(&b, "  ledger    %s\n  size      %d entries\n  root      %s\n", Printable(r.Origin), r.Size, r.Root)
	}
	fmt.Fprintf(&b, "  checked   %d entries, %d with details\n", r.Entries, r.Details)
	for _, f := range r.Findings {
		at, where := "", ""
		if f.Index >= 0 {
			at = fmt.Sprintf("entry %d: ", f.Index)
		}
		if f.Where != "" {
			where = " (" + Printable(f.Where) + ")"
		}
		fmt.Fprintf(&b, "  WRONG     %s: %s%s%s\n", f.Kind, at, Printable(f.Message), where)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(&b, "  WRONG     and %d findings more\n", r.Omitted)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "  note      %s\n", Printable(n))
	}
	for _, n := range r.Unproven {
		fmt.Fprintf(&b, "  unproven  %s\n", Printable(n))
	}
	switch {
	case !r.OK():
		fmt.Fprintf(&b, "FAILED: %d findings\n", int64(len(r.Findings))+r.Omitted)
	case r.Authenticated:
		fmt.Fprintln(&b, "GOOD: everything matches, and the signature is by the given key")
	default:
		fmt.Fprintln(&b, "GOOD: self-consistent, key not authenticated (--key does that)")
	}
	_, err := w.Write(b.Bytes())
	return err
}
