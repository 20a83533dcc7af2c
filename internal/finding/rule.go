package finding

import (
	_ "embed"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"sync"

	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/retention"
)

// A Rule says what may be wrong. Its name is for ever.
type Rule struct {
	Name     string `json:"name" yaml:"name"`
	Title    string `json:"title" yaml:"title"`
	Severity string `json:"severity" yaml:"severity"`
	// Means is what the evidence shows, Do what a person should do about it.
	Means string `json:"means" yaml:"means"`
	Do    string `json:"do" yaml:"do"`
	// When is the condition in CEL over an event of a rule that users add.
	When string `json:"when,omitempty" yaml:"when"`

	when *retention.Expression
}

//go:embed rules.yaml
var rulesYAML []byte

// Rules returns the rules that Graven ships.
var Rules = sync.OnceValue(func() []Rule {
	var rules []Rule
	if err := yaml.UnmarshalStrict(rulesYAML, &rules); err != nil {
		panic("internal error: rules.yaml: " + err.Error())
	}
	return rules
})

// find returns the shipped rule of a name.
func find(name string) *Rule {
	rules := Rules()
	i := slices.IndexFunc(rules, func(r Rule) bool { return r.Name == name })
	return &rules[i]
}

var ruleName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}[a-z0-9]$`)

// Compile makes rules that users add ready. What is wrong is told with the rule's name.
func Compile(rules []Rule) ([]Rule, error) {
	out := slices.Clone(rules)
	for i := range out {
		if err := out[i].compile(out[:i]); err != nil {
			return nil, fmt.Errorf("rule %q: %w", out[i].Name, err)
		}
	}
	return out, nil
}

func (r *Rule) compile(before []Rule) (err error) {
	named := func(other Rule) bool { return other.Name == r.Name }
	switch {
	case !ruleName.MatchString(r.Name):
		return errors.New("name: lower-case letters, digits and hyphens, up to 64")
	case slices.ContainsFunc(Rules(), named):
		return errors.New("name: Graven has a rule that is called that")
	case slices.ContainsFunc(before, named):
		return errors.New("name: it stands twice")
	case r.Title == "" || r.When == "":
		return errors.New("title and when are needed")
	}
	if r.Severity == "" {
		r.Severity = event.SeverityMedium
	}
	if word, ok := event.Severity(r.Severity); !ok || word != r.Severity {
		return fmt.Errorf("severity: %q is none of critical, high, medium, low, info", r.Severity)
	}
	if r.when, err = retention.Compile(r.When); err != nil {
		return fmt.Errorf("when: %w", err)
	}
	return nil
}
