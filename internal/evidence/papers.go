package evidence

import (
	"bufio"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/report"
	"github.com/graven-audit/graven/trail"
)

// A day is what the sources of one day came to.
type day struct {
	facts, observed, admission, confirmed, unexplained, unwitnessed int
	coverage                                                        string
}

// outages are the types that tell of what may be missing.
var outages = []string{"CaptureGap", "CaptureFailed", "AuditLogCoverageChanged", "IntentUnconfirmed", "QuarantineDropped", "AuditEventDeletedUnsealed", "RecorderStopped"}

// reconcile takes note of what an event of the window says of the completeness of its
// sources.
func (p *packer) reconcile(r *trail.Record, b *brief.Event, at time.Time) error {
	if p.filter.Namespaces != nil && !slices.Contains(p.filter.Namespaces, string(b.Namespace)) {
		return nil
	}
	name := at.UTC().Format(time.DateOnly)
	d := p.days[name]
	if d == nil {
		d = &day{}
		p.days[name] = d
	}
	eventType := string(b.EventType)
	switch eventType {
	case "WriteUnexplained":
		d.unexplained++
	case "ClaimUnwitnessed":
		d.unwitnessed++
	case "IntentConfirmed":
		d.confirmed++
	}
	switch string(b.Attribution) {
	case event.AttributionObserved:
		d.observed++
	case event.AttributionAdmission:
		d.admission++
	}
	d.facts++
	if !slices.Contains(outages, eventType) {
		return nil
	}
	details := map[string]string{}
	if err := brief.Details(r.Erasable, func(name, value []byte) { details[string(name)] = string(value) }); err != nil {
		return fmt.Errorf("entry %d: %w", r.Index, err)
	}
	if eventType == "AuditLogCoverageChanged" {
		d.coverage = strings.Trim("covered "+details["covered"]+": "+details["reason"], ": ")
	}
	p.gaps = append(p.gaps, []string{strconv.FormatInt(r.Index, 10), string(b.ID), string(b.Timestamp), eventType, details["since"], details["until"], details["reason"],
		string(b.Cluster), details["resources"]})
	return nil
}

// controls writes what the trail shows of the framework's controls, with every instance
// that was judged.
func (p *packer) controls(ctx context.Context) (*control.Document, error) {
	f, ok := p.m.Book.Framework(p.q.Framework)
	if !ok {
		return nil, fmt.Errorf("framework: there is none called %q; there are %s", p.q.Framework, strings.Join(p.m.Book.Names(), ", "))
	}
	// Their number is not known before: they wait in a file, and not in memory.
	spill, err := os.CreateTemp(p.m.Scratch, "graven-population-*")
	if err != nil {
		return nil, fmt.Errorf("write population: %w", err)
	}
	defer os.Remove(spill.Name())
	defer spill.Close()
	buffered := bufio.NewWriter(spill)
	rows := csv.NewWriter(buffered)
	rows.UseCRLF = true
	var failed error
	row := func(fields ...string) {
		for i := range fields {
			fields[i] = paper.Field(fields[i])
		}
		if err := rows.Write(fields); err != nil && failed == nil {
			failed = err
		}
		p.contents.Population++
	}
	row("check", "index", "id", "when", "what", "result", "why")
	a := control.Auditor{Book: p.m.Book, Source: p.m.Source, Population: func(i control.Instance) {
		result, index := "passed", ""
		if !i.Passed {
			result = "exception"
		}
		if i.Index >= 0 {
			index = strconv.FormatInt(i.Index, 10)
		}
		row(i.Check, index, i.ID, i.When, i.What, result, i.Why)
	}}
	assessment, err := a.Assess(ctx, &p.q.Question.Question, f)
	if err != nil {
		return nil, err
	}
	rows.Flush()
	for _, err := range []error{failed, rows.Error(), buffered.Flush()} {
		if err != nil {
			return nil, fmt.Errorf("write population: %w", err)
		}
	}
	if _, err := spill.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("write population: %w", err)
	}
	if err := p.add(evidence.PopulationFile, func(w io.Writer) error {
		if _, err := io.WriteString(w, "\ufeff"); err != nil {
			return err
		}
		_, err := io.Copy(w, spill)
		return err
	}); err != nil {
		return nil, err
	}
	d := control.NewDocument(assessment, &p.q.Question.Question, p.m.Source.Ledger())
	for _, name := range []string{"json", "csv", "html", "pdf"} {
		format, _ := paper.Named(name)
		text, err := d.Write(format)
		if err := p.addBytes("controls."+name, text, err); err != nil {
			return nil, err
		}
	}
	if p.q.Framework == "nist-800-53" {
		plan, results := oscal(d, p.contents.Ledger)
		if err := p.addJSON("oscal/assessment-plan.json", plan); err != nil {
			return nil, err
		}
		if err := p.addJSON("oscal/assessment-results.json", results); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// report writes the compliance report.
func (p *packer) report(ctx context.Context) (*report.ComplianceReport, error) {
	cr := report.ComplianceReporter{Source: p.m.Source}
	r, err := cr.Generate(ctx, p.q.Question.Question, true)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"json", "csv", "html", "pdf"} {
		format, _ := paper.Named(name)
		text, err := compliance.Write(r, format)
		if err := p.addBytes("report."+name, text, err); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// tables write what tells of the completeness of the sources.
func (p *packer) tables() error {
	rows := [][]string{{"day", "events", "observed by capture", "seen at admission", "confirmed", "writes without an event", "events without a write", "audit logs"}}
	for _, name := range slices.Sorted(maps.Keys(p.days)) {
		d := p.days[name]
		coverage := d.coverage
		if coverage == "" {
			coverage = "no change of coverage"
		}
		row := []string{name}
		for _, n := range []int{d.facts, d.observed, d.admission, d.confirmed, d.unexplained, d.unwitnessed} {
			row = append(row, strconv.Itoa(n))
		}
		rows = append(rows, append(row, coverage))
	}
	if err := p.addBytes("reconciliation.csv", paper.CSV(rows), nil); err != nil {
		return err
	}
	gaps := append([][]string{{"index", "id", "timestamp", "type", "since", "until", "reason", "cluster", "resources"}}, p.gaps...)
	if err := p.addBytes("gaps.csv", paper.CSV(gaps), nil); err != nil {
		return err
	}
	late := append([][]string{{"index", "id", "type", "timestamp", "recorded at", "late by"}}, p.late...)
	return p.addBytes("late.csv", paper.CSV(late), nil)
}

// findings writes what was found to be wrong in the period, as it stood when the last
// entry was recorded.
func (p *packer) findings(ctx context.Context) error {
	asOf, err := p.m.Source.AsOf(ctx)
	if err != nil {
		return err
	}
	book := finding.Book{Find: p.m.Source.Find, Now: func() time.Time { return asOf }}
	q := finding.Query{Namespace: p.filter.Namespace, Scope: p.q.Scope, From: p.filter.From, To: p.filter.To.Add(-1)}
	list, err := book.List(ctx, &q, p.contents.Ledger.Size)
	if err != nil {
		return err
	}
	rows := [][]string{{"id", "rule", "severity", "state", "happened at", "says", "subject", "incident", "namespace", "evidence", "last step", "by", "at", "reason"}}
	for _, f := range list.Findings {
		var evidence []string
		for _, index := range f.Evidence {
			evidence = append(evidence, strconv.FormatInt(index, 10))
		}
		last := f.Steps[len(f.Steps)-1]
		rows = append(rows, []string{f.ID, f.Rule, f.Severity, f.State, event.FormatTime(f.HappenedAt), f.Says, f.Subject, f.Incident, f.Namespace,
			strings.Join(evidence, " "), last.Type, last.By, event.FormatTime(last.At), last.Reason})
	}
	return p.addBytes("findings.csv", paper.CSV(rows), nil)
}

// queries writes what was asked, and how to ask it again.
func (p *packer) queries() error {
	again := fmt.Sprintf("graven evidence --framework %s --from %s --to %s --checkpoint %d -o FILE.zip", p.q.Framework,
		event.FormatTime(p.filter.From), event.FormatTime(p.filter.To), p.contents.Ledger.Size)
	if p.filter.Namespace != "" {
		again += " --namespace " + p.filter.Namespace
	}
	if p.q.Sample > 0 {
		again += fmt.Sprintf(" --sample %d --random-seed %d", p.q.Sample, p.q.Seed)
	}
	if p.q.Slim {
		again += " --slim"
	}
	return p.addJSON("queries.json", map[string]any{"filter": p.filter, "export": p.parameters(), "framework": p.q.Framework, "ledger": p.contents.Ledger,
		"timeZone": "UTC", "sample": p.q.Sample, "randomSeed": p.q.Seed, "again": again,
		"selection": "events whose timestamp lies in [from, to) and whose resource is in the namespace, but for those that tell of reading the ledger"})
}

// readme is what a reader opens first.
func (p *packer) readme(r *report.ComplianceReport, d *control.Document) *paper.Sheet {
	c := &p.contents
	s := &paper.Sheet{Title: "Evidence package", Subtitle: compliance.About(&p.q.Question.Question), Facts: compliance.Origins(p.m.Source.Ledger()), Footer: compliance.Footer(p.m.Source.Ledger())}
	s.Facts = append(s.Facts, paper.Fact{Name: "Framework", Value: d.Title}, paper.Fact{Name: "Events", Value: strconv.FormatInt(c.Events, 10)})
	if !c.Complete {
		s.Warnings = append(s.Warnings, "Filter completeness not proven: the entries of the range are not in this package.")
	}
	if c.ErasedBelow > 0 {
		s.Warnings = append(s.Warnings, fmt.Sprintf("Entries below %d were erased at the end of their retention: if they were about this period, they are not here.", c.ErasedBelow))
	}
	s.Warnings = append(s.Warnings, r.Notes...)
	s.Parts = append(s.Parts, paper.Part{Title: "How to check it", Text: []string{
		"graven-verify --key KEY FILE.zip checks everything offline, with the ledger's public key, which you should have from another source than this package. It needs no server and trusts none.",
		"Without the program: manifest.json names every file with its SHA-256, and manifest.dsse.json is the same under the ledger's Ed25519 signature (DSSE, in-toto). Each line of events.ndjson bears the entry that was hashed, and its inclusion proof (RFC 6962) under checkpoints/checkpoint.",
		"queries.json says how to make the same package again; with the same checkpoint it has the same bytes. Who made this one, and when, stands in a file of its own beside it."}})
	t := &paper.Table{Columns: []paper.Column{{Title: "File", Share: 1.4}, {Title: "What it is", Share: 4}}}
	for _, f := range contents {
		if slices.ContainsFunc(p.subjects, func(s evidence.Subject) bool { return s.Name == f[0] }) || strings.HasPrefix(f[0], "manifest") || strings.HasSuffix(f[0], "/") && p.q.Sample > 0 {
			t.Rows = append(t.Rows, []string{f[0], f[1]})
		}
	}
	s.Parts = append(s.Parts, paper.Part{Title: "What is in it", Table: t})
	shown := []string{"That nothing in the package was changed since it was signed.", "That each event is in the ledger, unchanged, under the signed checkpoint.", "That the details of each event are those that were recorded, or were erased as a tombstone in the ledger says."}
	if c.Complete {
		shown = append(shown, fmt.Sprintf("That of entries %d to %d every event is here that lies in the period and namespace. Earlier entries were recorded more than two hours before the period began, and no event may be dated more than an hour ahead.", c.First, c.Ledger.Size-1))
	}
	hidden := []string{"That the sources told everything that happened: reconciliation.csv and gaps.csv say how far that was watched.", "That a name which a program asserts is true: recorded.attribution of each event says how it is known.",
		"That the times of events are right: they are held against the times of recording, and late.csv has what came late.", "That a control is met: controls.html tells what single checks found.",
		"That this is the newest state of the ledger, or the only ledger of that name: an earlier checkpoint of yours, or witnesses, show that."}
	if !c.Complete {
		hidden = append(hidden, "Filter completeness not proven.")
	}
	list := func(texts []string) *paper.Table {
		t := &paper.Table{Columns: []paper.Column{{Title: ""}}}
		for _, text := range texts {
			t.Rows = append(t.Rows, []string{text})
		}
		return t
	}
	s.Parts = append(s.Parts, paper.Part{Title: "What it proves", Table: list(shown)}, paper.Part{Title: "What it does not prove", Table: list(hidden)})
	glance := &paper.Table{Columns: []paper.Column{{Title: "Control", Share: 0.8}, {Title: "Title", Share: 2.4}, {Title: "Checks", Share: 3.4}}}
	for _, c := range d.Controls {
		var results []string
		for _, x := range c.Results {
			results = append(results, x.Check+": "+x.Result)
		}
		glance.Rows = append(glance.Rows, []string{c.ID, c.Title, strings.Join(results, "; ")})
	}
	s.Parts = append(s.Parts, paper.Part{Title: "Controls at a glance", Table: glance})
	return s
}

// contents are the files of a package.
var contents = [][2]string{
	{"controls.html", "what the trail shows of each control, with every exception up to 25 a check; controls.pdf, controls.csv and controls.json have the same, the last with all of them"},
	{"report.html", "the compliance report of the period, each number with its meaning; report.pdf, report.csv and report.json have the same"},
	{evidence.PopulationFile, "every instance and day that a check judged, with its result: what samples are drawn from"},
	{"sample.csv", "the events that were drawn by the seed in queries.json, each with its permalink and proof"},
	{evidence.EventsFile, "every event of the period and namespace, with what it takes to check it"},
	{"reconciliation.csv", "day by day, what was observed, asked for at admission, confirmed, and seen by API servers without an event"},
	{"gaps.csv", "what the trail itself says was not watched, not recorded or not confirmed"},
	{"findings.csv", "what rules found to be wrong in the period, with the entries that show it and what became of it (docs/findings.md)"},
	{"late.csv", "events that were recorded more than an hour after they say they happened"},
	{evidence.CheckpointFile, "the signed checkpoint of the ledger (C2SP tlog-checkpoint)"},
	{evidence.KeyFile, "the ledger's public key. Compare it with one from another source"},
	{evidence.EntriesFile, "every entry of the ledger from the one on that may be about the period, without details"},
	{evidence.SpanFile, "the hashes of what stands before them"},
	{"proofs/sample/", "an inclusion proof for each event of the sample (C2SP tlog-proof)"},
	{"oscal/assessment-results.json", "the observations in OSCAL, with the plan beside it. There are no findings: OSCAL would have them say \"satisfied\" or not, which is the auditor's to say"},
	{"queries.json", "what was asked, and how to ask it again"},
	{evidence.ManifestFile, "every file with its SHA-256; manifest.dsse.json is the same, signed"},
}
