package terminal

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// A Status says how a server does. Its names are those of what the server answers.
type Status struct {
	Server string `json:"server"`
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Ready  bool   `json:"ready"`
	// Reason is why it is not ready.
	Reason    string   `json:"reason,omitempty"`
	ReadOnly  bool     `json:"readOnly,omitempty"`
	Witnessed *int64   `json:"witnessed,omitempty"`
	Refusing  []string `json:"refusing,omitempty"`
	// AuditEvents is nil where no operator has said anything.
	AuditEvents *Protection `json:"auditEvents,omitempty"`
}

// A Protection is how a cluster keeps AuditEvents.
type Protection struct {
	Rung  string    `json:"rung"`
	Level string    `json:"level"`
	Lacks string    `json:"lacks,omitempty"` // fields that are dropped
	Since time.Time `json:"since"`
	// Cluster is which, if it has a name, and By who says so: anybody who may
	// record could have.
	Cluster string `json:"cluster,omitempty"`
	By      string `json:"by"`
}

// Print writes a status as text.
func (s *Status) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintf(w, "server\t%s\nledger\t%s, %d entries\n", Cell(s.Server), Cell(s.Origin), s.Size)
	switch {
	case !s.Ready:
		fmt.Fprintf(w, "ready\tno: %s\n", Cell(s.Reason))
	case s.ReadOnly:
		fmt.Fprintln(w, "ready\tyes, to be read; nothing is recorded")
	default:
		fmt.Fprintln(w, "ready\tyes")
	}
	if s.Witnessed != nil {
		fmt.Fprintf(w, "witnessed\t%d entries\n", *s.Witnessed)
	}
	if len(s.Refusing) > 0 {
		fmt.Fprintf(w, "refusing\t%s\n", Cell(strings.Join(s.Refusing, ", ")))
	}
	if p := s.AuditEvents; p == nil {
		fmt.Fprintln(w, "AuditEvents\tno operator has said how they are protected")
	} else {
		in := ""
		if p.Cluster != "" {
			in = " in " + Cell(p.Cluster)
		}
		fmt.Fprintf(w, "AuditEvents\tprotected%s: %s (%s of 3), since %s, as %s says\n", in, Cell(p.Rung), Cell(p.Level), Clock(p.Since), Cell(p.By))
		if p.Lacks != "" {
			fmt.Fprintf(w, "\tdropped by their definition: %s\n", Cell(strings.ReplaceAll(p.Lacks, ",", ", ")))
		}
	}
	return w.Flush()
}
