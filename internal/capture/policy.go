package capture

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
)

// Where a policy is applied.
const (
	// Watch is what a resource's state became.
	Watch = "watch"
	// Admission is what somebody asks an API server to do.
	Admission = "admission"
)

// What becomes of a request at admission that cannot be recorded.
const (
	Refuse = "refuse" // it is refused
	Spool  = "spool"  // it is kept until it can be
)

// Operations of the requests and changes that a policy matches.
var operations = []string{"CREATE", "UPDATE", "DELETE", "CONNECT"}

// A Policy says what to record, and what to refuse. Expressions are in CEL.
type Policy struct {
	Name  string
	At    string // Watch or Admission
	Match Match
	// Variables may be used by name in what stands behind them.
	Variables []Variable
	// When is a condition for all that stands behind it; empty is always.
	When    string
	Records []Record
	// Require is for admission only.
	Require []Requirement
	// OnFailure is Refuse or Spool; empty is Spool.
	OnFailure string
}

// A Match says which resources a policy is about.
type Match struct {
	Resources []Resource
	// Operations are of CREATE, UPDATE, DELETE and CONNECT; empty means all.
	Operations []string
	// Namespaces are those whose resources match, and ExceptNamespaces those whose
	// do not; without Namespaces all others do, and what is in none.
	Namespaces, ExceptNamespaces []string
	// Names are those of the resources that match; empty means all.
	Names []string
}

// A Resource is a kind of resources, by its name in the plural; behind a slash may
// stand a subresource, as in "workflowexecutions/status".
type Resource struct{ Group, Version, Resource string }

// A Variable is an expression with a name.
type Variable struct{ Name, Expression string }

// A Record says when there is an event, and what is in it.
type Record struct {
	Name string // in messages
	// When is a condition; empty is always.
	When string
	// Lasts, for what is watched only, is how long a state must have lasted: it is not
	// looked at a change whether there is an event, but then. Zero is at changes.
	Lasts time.Duration
	// Each is a list; there is an event for each of its items, which is called item
	// in When and Event. Empty is one event.
	Each string
	// Claim gives whom the resource names as who did it, at admission: another than who
	// asks is a forgery, which is recorded beside the event.
	Claim string
	// Threshold, if not nil, has one event only where it is reached.
	Threshold *Threshold
	// Event has expressions by the names of an event's fields, as in "actor.name".
	// eventType and fact are required.
	Event map[string]string
}

// A Threshold is reached when the same happens so often within a time: what gives the
// same By is the same. It is counted by the facts.
type Threshold struct {
	Times  int
	Within time.Duration
	By     string // an expression
}

// A Requirement refuses requests.
type Requirement struct {
	That    string // a condition
	Message string // the words of the refusal
	// MessageExpression gives the words where it can; else Message does.
	MessageExpression string
}

// A Program is a policy that compiled. Its methods may be called concurrently.
type Program struct {
	Policy    Policy
	env       *environment
	variables map[string]*expression
	when      *expression
	records   []record
	require   []requirement
}

type record struct {
	name       string
	lasts      time.Duration
	when, each *expression
	fields     []field
	threshold  *Threshold
	by, claim  *expression
}

type field struct {
	name string
	*expression
}

type requirement struct {
	that, message *expression
	words         string
}

// Bounds of a policy.
const (
	maxResources = 64
	maxVariables = 64
	maxRecords   = 64
	maxTimes     = 1000
	maxWithin    = 7 * 24 * time.Hour
)

var identifier = regexp.MustCompile(`^[a-z][A-Za-z0-9]*$`)

// Compile checks a policy. Its error is an [event.Invalid] with all that is wrong,
// each with the field and, in an expression, the line and column.
func Compile(p Policy) (*Program, error) {
	c := &compiler{}
	c.check(&p)
	prog := &Program{Policy: p, variables: map[string]*expression{}}
	prog.env = newEnvironment(p.At)
	for i, v := range p.Variables {
		at := fmt.Sprintf("variables[%d]", i)
		switch {
		case !identifier.MatchString(v.Name):
			c.fail(at+".name", "a letter in lower case, then letters and digits")
			continue
		case prog.env.has(v.Name):
			c.fail(at+".name", fmt.Sprintf("%s is a name already", v.Name))
			continue
		}
		x := c.compile(prog.env, at+".expression", v.Expression, anything)
		prog.env.declare(v.Name, x)
		prog.variables[v.Name] = x
	}
	if p.When != "" {
		prog.when = c.compile(prog.env, "when", p.When, condition)
	}
	for i, r := range p.Records {
		prog.records = append(prog.records, c.record(prog.env, fmt.Sprintf("record[%d]", i), r, p.At == Admission))
	}
	for i, r := range p.Require {
		at := fmt.Sprintf("require[%d]", i)
		q := requirement{that: c.compile(prog.env, at+".that", r.That, condition), words: r.Message}
		if r.MessageExpression != "" {
			q.message = c.compile(prog.env, at+".messageExpression", r.MessageExpression, words)
		}
		if r.Message == "" {
			c.fail(at+".message", "required")
		}
		prog.require = append(prog.require, q)
	}
	if len(c.found) > 0 {
		return nil, c.found
	}
	return prog, nil
}

// A compiler collects what is wrong.
type compiler struct{ found event.Invalid }

func (c *compiler) fail(field, reason string) {
	c.found = append(c.found, &event.FieldError{Field: field, Reason: reason})
}

// check holds what is no expression against the rules.
func (c *compiler) check(p *Policy) {
	if p.At != Watch && p.At != Admission {
		c.fail("at", "watch or admission")
	}
	for i, r := range p.Match.Resources {
		if slices.Contains(p.Match.Resources[:i], r) {
			c.fail(fmt.Sprintf("match.resources[%d]", i), "it stands there twice")
		}
	}
	if p.OnFailure != "" && p.OnFailure != Refuse && p.OnFailure != Spool {
		c.fail("onFailure", "refuse or spool")
	}
	if p.At == Watch && len(p.Require) > 0 {
		c.fail("require", "only at admission: what was watched has happened")
	}
	if p.At == Watch && p.OnFailure == Refuse {
		c.fail("onFailure", "refuse only at admission: what was watched has happened")
	}
	if len(p.Records)+len(p.Require) == 0 {
		c.fail("record", "required, or require")
	}
	c.bound("record", len(p.Records), maxRecords)
	c.bound("require", len(p.Require), maxRecords)
	c.bound("variables", len(p.Variables), maxVariables)
	c.bound("match.resources", len(p.Match.Resources), maxResources)
	if len(p.Match.Resources) == 0 {
		c.fail("match.resources", "required")
	}
	for i, r := range p.Match.Resources {
		at := fmt.Sprintf("match.resources[%d]", i)
		if r.Version == "" {
			c.fail(at+".version", "required")
		}
		name, sub, _ := strings.Cut(r.Resource, "/")
		switch {
		case name == "" || strings.ContainsAny(r.Resource, "* "):
			c.fail(at+".resource", "the name of one resource, in the plural")
		case sub != "" && p.At == Watch:
			c.fail(at+".resource", "a resource is watched with all its subresources")
		}
	}
	for i, o := range p.Match.Operations {
		if !slices.Contains(operations, o) || p.At == Watch && o == "CONNECT" {
			c.fail(fmt.Sprintf("match.operations[%d]", i), "CREATE, UPDATE, DELETE or, at admission, CONNECT")
		}
	}
}

func (c *compiler) bound(field string, n, most int) {
	if n > most {
		c.fail(field, fmt.Sprintf("%d, the limit is %d", n, most))
	}
}

func (c *compiler) record(env *environment, at string, r Record, admission bool) record {
	out := record{name: r.Name, lasts: r.Lasts}
	switch {
	case r.Lasts != 0 && admission:
		c.fail(at+".lasts", "only of what is watched: a request takes no time")
	case r.Lasts < 0 || r.Lasts > maxWithin:
		c.fail(at+".lasts", fmt.Sprintf("from 0s to %s", maxWithin))
	}
	if r.Each != "" {
		out.each = c.compile(env, at+".each", r.Each, list)
		env = env.withItem(out.each)
	}
	if r.When != "" {
		out.when = c.compile(env, at+".when", r.When, condition)
	}
	if r.Claim != "" {
		out.claim = c.compile(&environment{env: env.env, optional: true, err: env.err}, at+".claim", r.Claim, words)
		if !admission {
			c.fail(at+".claim", "only at admission: who did what was watched is not known")
		}
	}
	if t := r.Threshold; t != nil {
		out.threshold, out.by = t, c.compile(env, at+".threshold.by", t.By, words)
		if admission {
			c.fail(at+".threshold", "only at watch: what is asked for may not be done")
		}
		if t.Times < 2 || t.Times > maxTimes {
			c.fail(at+".threshold.times", fmt.Sprintf("from 2 to %d", maxTimes))
		}
		if t.Within <= 0 || t.Within > maxWithin {
			c.fail(at+".threshold.within", fmt.Sprintf("more than 0s, and %s at most", maxWithin))
		}
	}
	for _, f := range fields {
		text, ok := r.Event[f.name]
		if !ok {
			if f.required {
				c.fail(at+".event."+f.name, "required")
			}
			continue
		}
		if admission && isIdentity(f.name) {
			c.fail(at+".event."+f.name, "at admission the actor is who asks")
			continue
		}
		out.fields = append(out.fields, field{f.name, c.compile(&environment{env: env.env, optional: !f.required, err: env.err}, at+".event."+f.name, text, f.kinds)})
	}
	for name := range r.Event {
		if !slices.ContainsFunc(fields, func(f eventField) bool { return f.name == name }) {
			c.fail(at+".event."+name, "not a field of an event that a policy gives")
		}
	}
	return out
}

// Matches reports whether a policy is about what happens to a resource.
func (m *Match) Matches(r Resource, operation, namespace, name string) bool {
	return slices.Contains(m.Resources, r) && (len(m.Operations) == 0 || slices.Contains(m.Operations, operation)) && m.Concerns(namespace, name)
}

// Concerns reports whether a policy is about a resource of its kinds.
func (m *Match) Concerns(namespace, name string) bool {
	return (len(m.Names) == 0 || slices.Contains(m.Names, name)) &&
		(len(m.Namespaces) == 0 || slices.Contains(m.Namespaces, namespace)) && !slices.Contains(m.ExceptNamespaces, namespace)
}
