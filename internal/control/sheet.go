package control

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/report"
)

// A Document is an assessment as it is written.
type Document struct {
	Framework string        `json:"framework"`
	Title     string        `json:"title"`
	Source    string        `json:"source"`
	Namespace string        `json:"namespace"`
	Window    report.Window `json:"window"`
	Ledger    report.Ledger `json:"ledger"`
	// Notes are what a reader must know first.
	Notes    []string  `json:"notes"`
	Controls []Shown   `json:"controls"`
	Checks   []Verdict `json:"checks"`
}

// Shown is a control with what its checks found.
type Shown struct {
	Control
	Results []Result `json:"results"`
}

// A Result is that of one check.
type Result struct {
	Check  string `json:"check"`
	Result string `json:"result"`
}

// disclaimer stands on every assessment.
const disclaimer = "Results are of single checks over the trail. Whether a control is met, and whether anybody complies, is for the auditor to say."

// NewDocument puts an assessment together with what was asked.
func NewDocument(a *Assessment, q *report.Question, of report.Ledger) *Document {
	d := &Document{Framework: a.Framework.Name, Title: a.Framework.Title, Source: a.Framework.Source, Namespace: q.Namespace, Ledger: of,
		Window: report.NewWindow(q.From, q.To), Notes: append([]string{disclaimer}, a.Notes...), Checks: a.Verdicts}
	if a.Framework.Note != "" {
		d.Notes = append(d.Notes, a.Framework.Note)
	}
	for _, c := range a.Framework.Controls {
		s := Shown{Control: c}
		for _, name := range c.Checks {
			s.Results = append(s.Results, Result{name, a.Verdict(name).Result})
		}
		d.Controls = append(d.Controls, s)
	}
	return d
}

// Write writes the document in a format.
func (d *Document) Write(format paper.Format) ([]byte, error) {
	switch format.Name {
	case "csv":
		return paper.CSV(d.Rows()), nil
	case "html":
		return d.Sheet().HTML()
	case "pdf":
		return d.Sheet().PDF()
	}
	return paper.Encode(d, format.Name)
}

// Rows are the document as CSV: a line for each check of each control.
func (d *Document) Rows() [][]string {
	rows := [][]string{{"framework", "control", "title", "asks", "shows", "strength", "check", "check asks", "result", "unit", "n", "exceptions", "unknown", "the organisation must still"}}
	for _, c := range d.Controls {
		for _, name := range c.Checks {
			v := d.verdict(name)
			rows = append(rows, []string{d.Framework, c.ID, c.Title, c.Asks, c.Shows, c.Strength, v.Check, v.Asks, v.Result, v.Unit,
				strconv.Itoa(v.N), strconv.Itoa(v.Exceptions), strconv.Itoa(v.Unknown), c.Organisation})
		}
	}
	return rows
}

func (d *Document) verdict(check string) *Verdict {
	for i := range d.Checks {
		if d.Checks[i].Check == check {
			return &d.Checks[i]
		}
	}
	return &Verdict{Check: check, Result: NotEnough}
}

// shownExceptions bounds the exceptions of a check on paper; all stand in JSON.
const shownExceptions = 25

// Sheet puts the document on paper.
func (d *Document) Sheet() *paper.Sheet {
	q := report.Question{Namespace: d.Namespace, From: d.Window.From, To: d.Window.To}
	s := &paper.Sheet{Title: d.Title, Subtitle: compliance.About(&q), Facts: append(compliance.Origins(d.Ledger), paper.Fact{Name: "Source", Value: d.Source}),
		Warnings: d.Notes, Footer: compliance.Footer(d.Ledger)}
	glance := &paper.Table{Columns: []paper.Column{{Title: "Control", Share: 0.8}, {Title: "Title", Share: 2.4}, {Title: "Checks", Share: 3.4}}}
	for _, c := range d.Controls {
		var results []string
		for _, r := range c.Results {
			results = append(results, r.Check+": "+r.Result)
		}
		glance.Rows = append(glance.Rows, []string{c.ID, c.Title, strings.Join(results, "; ")})
	}
	s.Parts = append(s.Parts, paper.Part{Title: "Controls", Table: glance})
	for _, c := range d.Controls {
		text := []string{"Asks: " + c.Asks, "The trail shows (" + c.Strength + " evidence): " + c.Shows, "You must still: " + c.Organisation}
		if c.Seed != "" {
			text = append(text, "Kubernaut's documents call it \""+c.Seed+"\", which is not its title.")
		}
		t := &paper.Table{Columns: []paper.Column{{Title: "Check", Share: 2}, {Title: "Result", Share: 1.3}, {Title: "What was asked", Share: 3.2}}}
		for _, name := range c.Checks {
			v := d.verdict(name)
			t.Rows = append(t.Rows, []string{v.Title, v.Result, v.Asks})
		}
		s.Parts = append(s.Parts, paper.Part{Title: c.ID + " — " + c.Title, Text: text, Table: t})
	}
	for i := range d.Checks {
		v := &d.Checks[i]
		if v.Exceptions == 0 {
			continue
		}
		t := &paper.Table{Columns: []paper.Column{{Title: "Entry", Number: true, Share: 0.5}, {Title: "When", Share: 1.4}, {Title: "What", Share: 2.2}, {Title: "Why", Share: 2.2}}}
		for _, x := range v.List[:min(len(v.List), shownExceptions)] {
			entry := "-"
			if x.Index >= 0 {
				entry = strconv.FormatInt(x.Index, 10)
			}
			t.Rows = append(t.Rows, []string{entry, x.When, x.What, x.Why})
		}
		text := []string{v.Title + ". " + v.Asks}
		if v.Exceptions > len(t.Rows) {
			text = append(text, fmt.Sprintf("%d of %d are shown; JSON has up to %d.", len(t.Rows), v.Exceptions, MaxExceptions))
		}
		s.Parts = append(s.Parts, paper.Part{Title: "Exceptions: " + v.Check, Text: text, Table: t})
	}
	return s
}
