package retention

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/graven-audit/graven/event"
)

// maxDays bounds how long a policy keeps anything: a hundred years.
const maxDays = 36500

// A Policy says how long events are kept, in days from when they were recorded.
// Zero says nothing. Where several policies match, the longest counts.
type Policy struct {
	Name string `yaml:"name" json:"name"`
	// Match is a condition in CEL over the event. Empty matches all.
	Match string `yaml:"match" json:"match,omitempty"`
	// MinimumDays is for how long neither details nor entry go.
	MinimumDays int `yaml:"minimumDays" json:"minimumDays,omitempty"`
	// DetailsDays is how long details, error messages and original spellings
	// are kept, EntryDays how long the rest is, of which details are a part:
	// they go with it at the latest.
	DetailsDays int `yaml:"detailsDays" json:"detailsDays,omitempty"`
	EntryDays   int `yaml:"entryDays" json:"entryDays,omitempty"`
}

// Policies say how long each event is kept. They do not change.
type Policies struct {
	list    []Policy
	matches []*Expression // nil where the policy matches all
}

// NewPolicies checks policies. An error names the field, such as
// policies[0].match.
func NewPolicies(list []Policy) (*Policies, error) {
	p := &Policies{list: slices.Clone(list), matches: make([]*Expression, len(list))}
	names := map[string]bool{}
	for i, x := range list {
		wrong := func(field, format string, args ...any) (*Policies, error) {
			return nil, &event.FieldError{Field: fmt.Sprintf("policies[%d].%s", i, field), Reason: fmt.Sprintf(format, args...)}
		}
		for _, d := range []struct {
			field string
			days  int
		}{{"minimumDays", x.MinimumDays}, {"detailsDays", x.DetailsDays}, {"entryDays", x.EntryDays}} {
			if d.days < 0 || d.days > maxDays {
				return wrong(d.field, "from 1 to %d, or left out", maxDays)
			}
		}
		switch {
		case x.Name == "":
			return wrong("name", "required: tombstones name it")
		case names[x.Name]:
			return wrong("name", "%.60q stands twice", x.Name)
		case x.MinimumDays == 0 && x.DetailsDays == 0 && x.EntryDays == 0:
			return wrong("entryDays", "required, or minimumDays or detailsDays: it says nothing")
		case x.EntryDays > 0 && x.EntryDays < x.DetailsDays:
			return wrong("entryDays", "%d, and details are kept %d: they are a part of it", x.EntryDays, x.DetailsDays)
		}
		if reason := badText(x.Name, event.MaxString); reason != "" {
			return wrong("name", "%s", reason)
		}
		names[x.Name] = true
		if x.Match != "" {
			var err error
			if p.matches[i], err = Compile(x.Match); err != nil {
				return wrong("match", "%v", err)
			}
		}
	}
	return p, nil
}

// Digest returns the SHA-256, in hexadecimal, of the policies as JSON.
func (p *Policies) Digest() string {
	text, err := json.Marshal(p.list)
	if err != nil {
		panic("internal error: " + err.Error()) // texts and numbers can be written
	}
	return fmt.Sprintf("%x", sha256.Sum256(text))
}

// A Term is how long an event is kept.
type Term struct {
	// Details and Entry are when these are due.
	Details, Entry time.Time
	// DetailsBy and EntryBy are what says so: a policy's name, [ByDefault] or
	// [ByCaller].
	DetailsBy, EntryBy string
}

// What gives a term beside policies.
const (
	ByDefault = "(default)" // no policy says anything
	ByCaller  = "(caller)"  // who sent the event asked for longer
)

// Term returns how long a subject is kept: as long as the longest of the
// policies that match it says or, where none says anything, 2,555 days. Who
// sent it may have asked for longer, and never for shorter.
//
// An event that says 2,555 is taken to have asked for nothing, for so says each
// that did not. A policy of which it cannot be told whether it matches counts,
// and does not stand in for the default.
func (p *Policies) Term(s *Subject) Term {
	var details, entry, least keep
	var saysDetails, saysEntry bool // for sure
	for i := range p.list {
		x := &p.list[i]
		is, unsure := true, error(nil)
		if m := p.matches[i]; m != nil {
			is, unsure = m.Match(s)
		}
		saysDetails = saysDetails || is && x.DetailsDays > 0
		saysEntry = saysEntry || is && x.EntryDays > 0
		if is || unsure != nil {
			details.longer(x.DetailsDays, x.Name)
			entry.longer(x.EntryDays, x.Name)
			least.longer(x.MinimumDays, x.Name)
		}
	}
	if !saysEntry {
		entry.longer(event.DefaultRetentionDays, ByDefault)
	}
	if !saysDetails {
		details.longer(entry.days, entry.by)
	}
	if asked := s.Event.RetentionDays; asked != event.DefaultRetentionDays {
		least.longer(asked, ByCaller)
	}
	details.longer(least.days, least.by)
	entry.longer(least.days, least.by)
	entry.longer(details.days, details.by)
	from := s.Event.Recorded.At
	return Term{Details: from.AddDate(0, 0, details.days), Entry: from.AddDate(0, 0, entry.days), DetailsBy: details.by, EntryBy: entry.by}
}

// A keep is a number of days, and who says so.
type keep struct {
	days int
	by   string
}

func (k *keep) longer(days int, by string) {
	if days > k.days {
		*k = keep{days, by}
	}
}
