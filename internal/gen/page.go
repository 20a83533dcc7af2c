package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/graven-audit/graven/event"
)

const pageIntro = `<!-- Written by internal/gen from event/catalogue.json; change that and run make generate. -->

# Event types

An event says who did what to which resource, when, and with what outcome. Its type says which kind of thing happened; the types below are known by name.
[event.schema.json](event.schema.json) describes an event's other members.

- **Other types are accepted, too.** Any name of letters, digits and ` + "`. _ - / :`" + ` may be an event type. One that is not in this catalogue is recorded as *uncatalogued*;
  a server that is set to be strict refuses it.
- **Aliases** are other spellings of a type, accepted on input and in filters. The event is recorded under the type's own name and keeps the spelling it came with.
- **Defaults.** An event that leaves out its category, action, outcome or severity gets those of its type. The actor is the usual one and never filled in.
- **Details** are the keys that an event of the type usually has. Keys in **bold** are required; any other key may be there as well.

| Family | Types | |
|---|---|---|
`

// eventsPage returns the catalogue as a page for people.
func eventsPage() []byte {
	var b bytes.Buffer
	b.WriteString(pageIntro)
	types := map[string][]event.Type{}
	for _, t := range event.Types() {
		types[t.Family] = append(types[t.Family], t)
	}
	for _, f := range event.Families() {
		fmt.Fprintf(&b, "| [%s](#%s) | %d | %s |\n", cell(f.Title), anchor(f.Title), len(types[f.Name]), cell(f.Description))
	}
	for _, f := range event.Families() {
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", f.Title, f.Description)
		if slices.ContainsFunc(types[f.Name], func(t event.Type) bool { return t.Reserved }) {
			b.WriteString("Types marked *reserved* are recorded by the ledger itself; a caller who sends one is refused.\n")
		}
		if slices.ContainsFunc(types[f.Name], func(t event.Type) bool { return t.Access }) {
			b.WriteString("Types marked *access* tell of reading; lists, streams and sinks leave them out unless asked for.\n")
		}
		b.WriteString("\n| Type | Aliases | Category | Severity | Outcome | Usual actor | Details | What happened |\n|---|---|---|---|---|---|---|---|\n")
		for _, t := range types[f.Name] {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s | %s | %s | %s |\n", t.Type, list(t.Aliases, nil), t.Category, t.Severity, t.Outcome, actor(t.Actor), list(t.Details, t.Required), cell(t.Description+marks(t)))
		}
	}
	return b.Bytes()
}

func actor(a event.Actor) string {
	if a.Name == "" {
		return a.Type
	}
	return a.Type + " `" + a.Name + "`"
}

func marks(t event.Type) string {
	s := ""
	if t.Reserved {
		s += " *Reserved.*"
	}
	if t.Access {
		s += " *Access.*"
	}
	return s
}

// list joins names; those that are also in bold stand out.
func list(names, bold []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		if quoted[i] = "`" + n + "`"; slices.Contains(bold, n) {
			quoted[i] = "**" + quoted[i] + "**"
		}
	}
	return strings.Join(quoted, ", ")
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// anchor is the fragment that renderers of Markdown give to a heading.
func anchor(title string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-':
			return r
		}
		return -1
	}, strings.ToLower(title))
}
