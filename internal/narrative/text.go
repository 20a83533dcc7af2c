package narrative

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/graven-audit/graven/internal/legible"
)

// unsaid are the words for a passage that the trail has nothing of.
var unsaid = map[Part]string{
	Signal:   "No event says what was noticed.",
	Analysis: "No analysis is recorded.",
	Decision: "No decision is recorded.",
	Approval: "Nobody was asked, as far as the trail says.",
	Action:   "Nothing was done, as far as the trail says.",
	Effect:   "Nothing says whether it worked.",
	End:      "No end is recorded.",
}

// A passage is a part of the story in sentences.
type passage struct {
	part  Part
	title string
	lines []string
}

// passages are the story's summary.
func (s *Story) passages() []passage {
	var all []passage
	add := func(part Part, title string, lines []string) {
		if len(lines) == 0 {
			lines = []string{unsaid[part]}
		}
		all = append(all, passage{part, title, lines})
	}
	add(Signal, "Signal", placed(s.Signal))
	var lines []string
	for _, in := range s.Analyses {
		lines = append(lines, in.Text+after(". In its own words: “", legible.Cut(in.Finding, 600), "”")+after(". Alternatives: ", strings.Join(in.Alternatives, "; "), "")+place(in.Index))
	}
	add(Analysis, "Analysis", lines)
	add(Decision, "Decision", placed(s.Decisions))
	lines = nil
	for i := range s.Approvals {
		lines = append(lines, s.Approvals[i].sentence())
	}
	if len(lines) == 0 && s.Automatic != nil {
		lines = []string{"Nobody was asked: it was decided automatically, mode " + s.Automatic.Text + place(s.Automatic.Index)}
	}
	add(Approval, "Approval", lines)
	lines = nil
	for _, x := range s.Actions {
		lines = append(lines, x.What+after(" on ", x.Target, "")+after(" → ", x.Result, "")+after(": ", x.Why, "")+place(x.Index))
	}
	add(Action, "Done", lines)
	effects := placed(s.Effects)
	if len(effects) == 0 && slices.ContainsFunc(s.Actions, func(x Executed) bool { return x.ResultIndex >= 0 }) {
		effects = []string{"Nothing was assessed beside the results above."}
	}
	add(Effect, "Effect", effects)
	add(End, "End", placed(s.End))
	return all
}

func placed(lines []Line) (all []string) {
	for _, l := range lines {
		all = append(all, l.Text+place(l.Index))
	}
	return all
}

func place(index int64) string { return fmt.Sprintf(" [%d]", index) }

// sentence tells who decided, as what is known of it.
func (d *Decided) sentence() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s", cmp.Or(d.Request, "a request"), d.Decision)
	if d.Decision == "open" {
		b.WriteString(", nobody has decided")
	} else {
		fmt.Fprintf(&b, " by %s %s (%s)", d.WhoType, d.Who, d.Known)
	}
	if d.AfterMs > 0 {
		fmt.Fprintf(&b, ", %s after it was asked for", span(d.AfterMs))
	}
	b.WriteString(after(": “", d.Reason, "”"))
	b.WriteString(after("; ", strings.Join(d.Notes, "; "), ""))
	return b.String() + place(d.Index)
}

func span(ms int64) string { return (time.Duration(ms) * time.Millisecond).String() }

// about says of which incident it is, and how it stands.
func (s *Story) about() string {
	return fmt.Sprintf("%s, severity %s, %d facts in %d events, %s from %s", s.Status, cmp.Or(s.Severity, "unknown"), s.Facts, s.Events, span(s.DurationMs), cmp.Or(s.StartedAt, "an unknown time"))
}

// Text returns the story for a terminal.
func (s *Story) Text() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "Incident %s: %s\n", legible.Line(s.CorrelationID), legible.Line(s.about()))
	for _, p := range s.passages() {
		fmt.Fprintf(&b, "\n%s\n", p.title)
		for _, l := range p.lines {
			fmt.Fprintf(&b, "  %s\n", legible.Line(l))
		}
	}
	b.WriteString("\nStory\n")
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, st := range s.Steps {
		fmt.Fprintf(w, "  +%s\t%s\t%s\t%s\t[%d]\n", span(st.SinceStartMs), st.Part, legible.Line(legible.Cut(st.sentence(), 240)), legible.Line(st.WhoType+"/"+st.Who), st.Index)
	}
	w.Flush() // a strings.Builder takes all
	if s.Limited != nil {
		fmt.Fprintf(&b, "\nOnly events of these namespaces are told, so what is missing cannot be: %s\n", legible.Line(strings.Join(s.Limited, ", ")))
	}
	for i, m := range s.Missing {
		if i == 0 {
			b.WriteString("\nMissing\n")
		}
		fmt.Fprintf(&b, "  %s\n", legible.Line(m.sentence()))
	}
	if s.Late != "" {
		fmt.Fprintf(&b, "\nLate\n  %s\n", legible.Line(s.Late))
	}
	return []byte(b.String())
}

func (m *Missing) sentence() string {
	text := m.Text + after(" (", strings.Join(m.Expected, " or "), ")")
	if m.Index >= 0 {
		text += place(m.Index)
	}
	return text
}

// sentence is a step with its state and notes.
func (st *Step) sentence() string {
	text := st.Text
	switch st.State {
	case "asked":
		text = "ASKED FOR: " + text
	case "unconfirmed":
		text = "UNCONFIRMED: " + text
	case "refused":
		text = "NOT DONE: " + text
	}
	return text + after(" — ", strings.Join(st.Notes, "; "), "")
}

// Markdown returns the story as the beginning of a post-mortem. What only people can say
// is left to them.
func (s *Story) Markdown() []byte {
	var b strings.Builder
	md := legible.Markdown
	fmt.Fprintf(&b, "# Post-mortem: incident %s\n\n", md(s.CorrelationID))
	b.WriteString("Made from the audit trail. Numbers in brackets are places in the ledger; `graven get INDEX` shows the event there, `graven prove INDEX` proves it.\n\n")
	b.WriteString("| | |\n|---|---|\n")
	row := func(name, value string) { fmt.Fprintf(&b, "| %s | %s |\n", name, md(value)) }
	row("Status", string(s.Status))
	row("Severity", s.Severity)
	row("From", s.StartedAt)
	row("To", s.LastAt)
	row("Duration", span(s.DurationMs))
	row("Told by", fmt.Sprintf("%d events, of %d facts", s.Events, s.Facts))
	b.WriteString("\n## Summary\n\n")
	for _, p := range s.passages() {
		fmt.Fprintf(&b, "**%s**\n\n", p.title)
		for _, l := range p.lines {
			fmt.Fprintf(&b, "- %s\n", md(l))
		}
		b.WriteByte('\n')
	}
	b.WriteString("## Timeline\n\n| Time (UTC) | | What | Who | Known | Entries |\n|---|---|---|---|---|---|\n")
	for _, st := range s.Steps {
		var places []string
		for _, t := range st.Tellings {
			places = append(places, fmt.Sprint(t.Index))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", md(st.At), st.Part, md(st.sentence()), md(st.WhoType+"/"+st.Who), md(st.Known), strings.Join(places, ", "))
	}
	b.WriteString("\n## Impact\n\n_Who was affected, how, and for how long: to be written by a person._\n\n## What is missing\n\n")
	if s.Limited != nil {
		fmt.Fprintf(&b, "Only events of these namespaces are told, so what is missing cannot be: %s\n\n", md(strings.Join(s.Limited, ", ")))
	}
	for _, m := range s.Missing {
		fmt.Fprintf(&b, "- %s\n", md(m.sentence()))
	}
	if len(s.Missing) == 0 && s.Limited == nil {
		b.WriteString("Nothing that the trail should have is known to be missing.\n")
	}
	if s.Late != "" {
		fmt.Fprintf(&b, "\nLate: %s.\n", md(s.Late))
	}
	b.WriteString("\n## Action items\n\n| What | Owner | Due |\n|---|---|---|\n| | | |\n")
	return []byte(b.String())
}
