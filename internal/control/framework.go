package control

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"

	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/retention"
)

// A Framework is a list of controls that somebody has written down.
type Framework struct {
	Name     string    `json:"name"`
	Title    string    `json:"title"`
	Source   string    `json:"source"`
	Note     string    `json:"note,omitempty"`
	Controls []Control `json:"controls"`
}

// A Control is one of them.
type Control struct {
	ID string `json:"id"`
	// Title is the official short title.
	Title string `json:"title"`
	// Seed is what Kubernaut's documents call it, where that differs.
	Seed string `json:"seed,omitempty"`
	Asks string `json:"asks"`
	// Shows is what Graven shows of it.
	Shows string `json:"shows"`
	// Strength is direct, where what is shown is what is asked for, or supporting.
	Strength string `json:"strength"`
	// Checks are the names of those that bear on it.
	Checks []string `json:"checks"`
	// Organisation is what remains to be done by people.
	Organisation string `json:"organisation"`
}

// A Check is a question that the trail answers.
type Check struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Asks  string `json:"asks"`
	// Instances are the types of events that are judged, Of the condition that they
	// must meet for that, and Pass the one that they must meet to be no exception.
	Instances []string `json:"instances,omitempty"`
	Of        string   `json:"of,omitempty"`
	Pass      string   `json:"pass,omitempty"`
	// Procedure is what is done where one event does not tell.
	Procedure string `json:"procedure,omitempty"`
	// Per is "day" where days are judged.
	Per string `json:"per,omitempty"`
	// Days is the parameter of the procedure retention.
	Days int64 `json:"days,omitempty"`

	of, pass *retention.Expression
}

// Unit is what is judged.
func (c *Check) Unit() string {
	if c.Per == "day" {
		return "days"
	}
	return "instances"
}

// A Book is frameworks with the checks that they name.
type Book struct {
	Frameworks []Framework
	Checks     map[string]*Check
}

//go:embed checks.yaml frameworks/*.yaml
var files embed.FS

// Shipped is the book that Graven ships.
var Shipped = sync.OnceValues(func() (*Book, error) { return Read(files) })

// Read reads checks.yaml and frameworks/*.yaml. What is wrong is told with its file and
// name.
func Read(from fs.FS) (*Book, error) {
	b := &Book{Checks: map[string]*Check{}}
	text, err := fs.ReadFile(from, "checks.yaml")
	if err != nil {
		return nil, err
	}
	var checks []*Check
	if err := yaml.UnmarshalStrict(text, &checks); err != nil {
		return nil, fmt.Errorf("checks.yaml: %w", err)
	}
	for _, c := range checks {
		if err := c.compile(); err != nil {
			return nil, fmt.Errorf("checks.yaml: check %q: %w", c.Name, err)
		}
		if b.Checks[c.Name] != nil {
			return nil, fmt.Errorf("checks.yaml: check %q stands twice", c.Name)
		}
		b.Checks[c.Name] = c
	}
	names, err := fs.Glob(from, "frameworks/*.yaml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := fs.ReadFile(from, name)
		if err != nil {
			return nil, err
		}
		var f Framework
		if err := yaml.UnmarshalStrict(text, &f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if err := b.look(&f); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		b.Frameworks = append(b.Frameworks, f)
	}
	return b, nil
}

func (c *Check) compile() (err error) {
	switch {
	case c.Name == "" || c.Title == "" || c.Asks == "":
		return errors.New("name, title and asks are needed")
	case c.Per != "" && c.Per != "day":
		return fmt.Errorf("per: %q is not day", c.Per)
	case c.Procedure != "" && (len(c.Instances) > 0 || c.Pass != "" || c.Of != ""):
		return errors.New("a procedure has no instances, of or pass of its own")
	case c.Procedure != "" && procedures[c.Procedure] == nil:
		return fmt.Errorf("procedure: there is none called %q; there are %s", c.Procedure, strings.Join(slices.Sorted(maps.Keys(procedures)), ", "))
	case c.Procedure != "":
		return nil
	case len(c.Instances) == 0 || c.Pass == "":
		return errors.New("instances and pass are needed, or a procedure")
	}
	for _, t := range c.Instances {
		if known, ok := event.Lookup(t); !ok || known.Type != t {
			return fmt.Errorf("instances: %q is no event type of the catalogue", t)
		}
	}
	if c.pass, err = retention.Compile(c.Pass); err != nil {
		return fmt.Errorf("pass: %w", err)
	}
	if c.Of != "" {
		if c.of, err = retention.Compile(c.Of); err != nil {
			return fmt.Errorf("of: %w", err)
		}
	}
	return nil
}

func (b *Book) look(f *Framework) error {
	if f.Name == "" || f.Title == "" || f.Source == "" || len(f.Controls) == 0 {
		return errors.New("name, title, source and controls are needed")
	}
	seen := map[string]bool{}
	for _, c := range f.Controls {
		switch {
		case c.ID == "" || c.Title == "" || c.Asks == "" || c.Shows == "" || c.Organisation == "":
			return fmt.Errorf("control %q: id, title, asks, shows and organisation are needed", c.ID)
		case c.Strength != "direct" && c.Strength != "supporting":
			return fmt.Errorf("control %q: strength: %q is neither direct nor supporting", c.ID, c.Strength)
		case len(c.Checks) == 0:
			return fmt.Errorf("control %q: it names no check", c.ID)
		case seen[c.ID]:
			return fmt.Errorf("control %q stands twice", c.ID)
		}
		seen[c.ID] = true
		for _, name := range c.Checks {
			if b.Checks[name] == nil {
				return fmt.Errorf("control %q: there is no check %q", c.ID, name)
			}
		}
	}
	return nil
}

// Framework returns the framework of a name.
func (b *Book) Framework(name string) (*Framework, bool) {
	for i := range b.Frameworks {
		if b.Frameworks[i].Name == name {
			return &b.Frameworks[i], true
		}
	}
	return nil, false
}

// Names returns the names of the frameworks.
func (b *Book) Names() (names []string) {
	for _, f := range b.Frameworks {
		names = append(names, f.Name)
	}
	return names
}

// named returns the checks that a framework names, each once, in order.
func (b *Book) named(f *Framework) (checks []*Check) {
	for _, c := range f.Controls {
		for _, name := range c.Checks {
			if !slices.Contains(checks, b.Checks[name]) {
				checks = append(checks, b.Checks[name])
			}
		}
	}
	return checks
}
