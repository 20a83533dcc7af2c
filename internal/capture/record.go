package capture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	"github.com/graven-audit/graven/event"
)

// An eventField is a field of an event that a policy gives.
type eventField struct {
	name     string
	kinds    kinds
	required bool
	set      func(e *event.Event, v ref.Val) error
}

var fields = []eventField{
	{name: "eventType", kinds: words, required: true, set: text(func(e *event.Event) *string { return &e.EventType })},
	{name: "fact", kinds: words, required: true, set: text(func(e *event.Event) *string { return &e.Fact })},
	{name: "timestamp", kinds: kinds{cel.TimestampType, cel.StringType}, set: timestamp},
	{name: "actor.type", kinds: words, set: text(func(e *event.Event) *string { return &e.Actor.Type })},
	{name: "actor.name", kinds: words, set: text(func(e *event.Event) *string { return &e.Actor.Name })},
	{name: "actor.serviceAccount", kinds: words, set: text(func(e *event.Event) *string { return &e.Actor.ServiceAccount })},
	{name: "actor.controller", kinds: words, set: text(func(e *event.Event) *string { return &e.Actor.Controller })},
	{name: "resource.apiVersion", kinds: words, set: text(func(e *event.Event) *string { return &e.Resource.APIVersion })},
	{name: "resource.kind", kinds: words, set: text(func(e *event.Event) *string { return &e.Resource.Kind })},
	{name: "resource.namespace", kinds: words, set: text(func(e *event.Event) *string { return &e.Resource.Namespace })},
	{name: "resource.name", kinds: words, set: text(func(e *event.Event) *string { return &e.Resource.Name })},
	{name: "resource.uid", kinds: words, set: text(func(e *event.Event) *string { return &e.Resource.UID })},
	{name: "category", kinds: words, set: text(func(e *event.Event) *string { return &e.Category })},
	{name: "action", kinds: words, set: text(func(e *event.Event) *string { return &e.Action })},
	{name: "outcome", kinds: words, set: text(func(e *event.Event) *string { return &e.Outcome })},
	{name: "severity", kinds: words, set: text(func(e *event.Event) *string { return &e.Severity })},
	{name: "correlationID", kinds: words, set: text(func(e *event.Event) *string { return &e.CorrelationID })},
	{name: "cluster", kinds: words, set: text(func(e *event.Event) *string { return &e.Cluster })},
	{name: "error.code", kinds: words, set: text(func(e *event.Event) *string { return &e.Error.Code })},
	{name: "error.message", kinds: words, set: text(func(e *event.Event) *string { return &e.Error.Message })},
	{name: "details", kinds: kinds{cel.MapType(cel.StringType, cel.DynType)}, set: details},
	{name: "durationMs", kinds: kinds{cel.IntType, cel.DurationType}, set: duration},
	{name: "retentionDays", kinds: kinds{cel.IntType}, set: retention},
	{name: "sensitive", kinds: condition, set: sensitive},
}

func text(of func(*event.Event) *string) func(*event.Event, ref.Val) error {
	return func(e *event.Event, v ref.Val) error {
		s, ok := v.Value().(string)
		if !ok {
			return given(v, "a string")
		}
		*of(e) = s
		return nil
	}
}

// given is the error of a value of the wrong type.
func given(v ref.Val, want string) error {
	return fmt.Errorf("it gives %s, and is to give %s", v.Type().TypeName(), want)
}

func timestamp(e *event.Event, v ref.Val) error {
	switch at := v.Value().(type) {
	case time.Time:
		e.Timestamp = at.UTC()
	case string:
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			return fmt.Errorf("%.40q is no time as RFC 3339 has it", at)
		}
		e.Timestamp = t.UTC()
	default:
		return given(v, "a timestamp, or a string")
	}
	return nil
}

func duration(e *event.Event, v ref.Val) error {
	switch d := v.Value().(type) {
	case time.Duration:
		e.DurationMs = d.Milliseconds()
	case int64:
		e.DurationMs = d
	default:
		return given(v, "milliseconds, or a duration")
	}
	return nil
}

func retention(e *event.Event, v ref.Val) error {
	days, ok := v.Value().(int64)
	if !ok || days != int64(int32(days)) {
		return given(v, "a number of days")
	}
	e.RetentionDays = int(days)
	return nil
}

func sensitive(e *event.Event, v ref.Val) error {
	b, ok := v.Value().(bool)
	if !ok {
		return given(v, "a bool")
	}
	e.Sensitive = b
	return nil
}

func details(e *event.Event, v ref.Val) error {
	m, err := plain(v, 0)
	if err != nil {
		return err
	}
	if _, ok := m.(map[string]any); !ok {
		return given(v, "a map")
	}
	return e.SetDetails(m)
}

// plain returns a value as JSON has it. Members that are an empty optional are not
// there.
func plain(v ref.Val, depth int) (any, error) {
	if depth > event.MaxDetailsDepth {
		return nil, errors.New("nested too deeply")
	}
	switch v := v.(type) {
	case types.Null:
		return nil, nil
	case types.Bool:
		return bool(v), nil
	case types.String:
		return string(v), nil
	case types.Int:
		return int64(v), nil
	case types.Uint:
		return uint64(v), nil
	case types.Double:
		if f := float64(v); !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f, nil
		}
		return nil, errors.New("no finite number")
	case types.Timestamp:
		return event.FormatTime(v.Time), nil
	case types.Duration:
		return v.Duration.String(), nil
	case *types.Optional:
		if !v.HasValue() {
			return nil, nil
		}
		return plain(v.GetValue(), depth)
	case traits.Mapper:
		m := map[string]any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			name, ok := key.Value().(string)
			if !ok {
				return nil, given(key, "a string as the name of a member")
			}
			member := v.Get(key)
			if o, ok := member.(*types.Optional); ok && !o.HasValue() {
				continue
			}
			value, err := plain(member, depth+1)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			m[name] = value
		}
		return m, nil
	case traits.Lister:
		all := []any{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			value, err := plain(it.Next(), depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, value)
		}
		return all, nil
	}
	return nil, given(v, "what JSON has")
}

// Events returns what a policy records of an input, in its order. What one record
// cannot give is an error of its own, beside the events of the others.
func (p *Program) Events(ctx context.Context, in *Input) ([]*event.Event, error) {
	s := p.scope(ctx, in)
	if yes, err := s.holds(p.when); !yes {
		return nil, err
	}
	var events []*event.Event
	var failed error
	for i := range p.records {
		if p.records[i].lasts != 0 {
			continue // at its time
		}
		found, err := s.events(&p.records[i], in)
		events = append(events, found...)
		failed = errors.Join(failed, err)
	}
	return events, failed
}

// Lasts reports whether a policy has records of states that have lasted.
func (p *Program) Lasts() bool {
	return slices.ContainsFunc(p.records, func(r record) bool { return r.lasts != 0 })
}

// Lasted returns what a policy records of a state that has lasted since a time until
// in.Now, as of when it had lasted long enough, and when it is to be looked again; zero
// for not at all. The state stands in the input as the old one, too.
func (p *Program) Lasted(ctx context.Context, in *Input, since time.Time) (events []*event.Event, again time.Time, failed error) {
	left := uint64(MaxCost)
	for i := range p.records {
		r := &p.records[i]
		if r.lasts == 0 {
			continue
		}
		then := *in
		if then.Now = since.Add(r.lasts); then.Now.After(in.Now) {
			if again.IsZero() || then.Now.Before(again) {
				again = then.Now
			}
			continue
		}
		s := p.scope(ctx, &then)
		s.left = &left
		yes, err := s.holds(p.when)
		if yes {
			var found []*event.Event
			found, err = s.events(r, &then)
			events = append(events, found...)
		}
		failed = errors.Join(failed, err)
	}
	return events, again, failed
}

// maxItems bounds the events of one record.
const maxItems = 1000

func (s *scope) events(r *record, in *Input) ([]*event.Event, error) {
	if r.each == nil {
		return s.told(r, in)
	}
	v, err := s.eval(r.each)
	if err != nil {
		if missing(err) {
			return nil, nil
		}
		return nil, err
	}
	items, ok := v.(traits.Lister)
	if !ok {
		return nil, &EvalError{r.each.field, given(v, "a list")}
	}
	var events []*event.Event
	for it := items.Iterator(); it.HasNext() == types.True; {
		if len(events) == maxItems {
			return events, &EvalError{r.each.field, fmt.Errorf("more than %d items", maxItems)}
		}
		of := *s
		of.item = it.Next()
		found, err := of.told(r, in)
		if events = append(events, found...); err != nil {
			return events, err
		}
	}
	return events, nil
}

// told returns the event of a record, if there is one, and what else it tells of.
func (s *scope) told(r *record, in *Input) ([]*event.Event, error) {
	e, err := s.event(r, in)
	if e == nil || err != nil {
		return nil, err
	}
	forged, err := s.forged(r, e)
	if forged == nil {
		return []*event.Event{e}, err
	}
	return []*event.Event{e, forged}, err
}

// holds reports whether a condition holds; nil does. What fails for a member that is
// not there does not.
func (s *scope) holds(x *expression) (bool, error) {
	if x == nil {
		return true, nil
	}
	v, err := s.eval(x)
	if err != nil && missing(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	yes, ok := v.Value().(bool)
	if !ok {
		return false, &EvalError{x.field, given(v, "a bool")}
	}
	return yes, nil
}

// event returns the event of a record; nil if there is none.
func (s *scope) event(r *record, in *Input) (*event.Event, error) {
	if yes, err := s.holds(r.when); !yes {
		return nil, err
	}
	e := &event.Event{Timestamp: in.Now.UTC(), Cluster: in.Cluster, Resource: about(in)}
	for _, f := range r.fields {
		v, err := s.eval(f.expression)
		if err != nil {
			return nil, err
		}
		if o, ok := v.(*types.Optional); ok {
			if !o.HasValue() {
				continue
			}
			v = o.GetValue()
		}
		if err := setters[f.name](e, v); err != nil {
			return nil, &EvalError{f.field, err}
		}
	}
	if e.EventType == "" || e.Fact == "" {
		return nil, &EvalError{strings.TrimSuffix(r.fields[0].field, ".eventType"), errors.New("the event's type, or the fact that it tells, is empty")}
	}
	e.Actor.Type, e.Actor.Name = actor(e)
	e.ID = event.DeriveID("capture", s.program.Policy.At, e.Cluster, e.Fact)
	if s.program.Policy.At == Admission {
		if err := s.asked(e, in); err != nil {
			return nil, err
		}
	}
	if r.threshold != nil {
		if reached, err := s.reaches(r, in, e); err != nil || !reached {
			return nil, err
		}
	}
	return e, nil
}

// actor returns who an event's actor is, where a policy does not say it: the one that
// the catalogue has for the type.
func actor(e *event.Event) (kind, name string) {
	kind, name = e.Actor.Type, e.Actor.Name
	if t, ok := event.Lookup(e.EventType); ok && kind == "" {
		kind, name = t.Actor.Type, cmp.Or(name, t.Actor.Name)
	}
	return cmp.Or(kind, event.ActorSystem), cmp.Or(name, "unknown")
}

// reaches counts an event, and reports whether the record's threshold is reached with
// it.
func (s *scope) reaches(r *record, in *Input, e *event.Event) (bool, error) {
	v, err := s.eval(r.by)
	if err != nil {
		return false, err
	}
	by, ok := v.Value().(string)
	if !ok {
		return false, &EvalError{r.by.field, given(v, "a string")}
	}
	if in.Counter == nil {
		return false, nil
	}
	key := strings.Join([]string{s.program.Policy.Name, r.name, by}, "/")
	return in.Counter.Reaches(key, e.Fact, e.Timestamp, r.threshold.Within, r.threshold.Times), nil
}

var setters = func() map[string]func(*event.Event, ref.Val) error {
	m := map[string]func(*event.Event, ref.Val) error{}
	for _, f := range fields {
		m[f.name] = f.set
	}
	return m
}()

// about returns the resource that an input is of.
func about(in *Input) event.Resource {
	o := in.Object
	if o == nil {
		o = in.Old
	}
	member := func(from map[string]any, name string) string {
		s, _ := from[name].(string)
		return s
	}
	meta, _ := o["metadata"].(map[string]any)
	return event.Resource{APIVersion: member(o, "apiVersion"), Kind: member(o, "kind"), Namespace: member(meta, "namespace"),
		Name: member(meta, "name"), UID: member(meta, "uid")}
}

// Refuses returns the words with which a policy refuses a request; empty if it does
// not. What fails is an error, and for who asked to decide.
func (p *Program) Refuses(ctx context.Context, in *Input) (string, error) {
	s := p.scope(ctx, in)
	if yes, err := s.holds(p.when); !yes {
		return "", err
	}
	for i := range p.require {
		r := &p.require[i]
		v, err := s.eval(r.that)
		if err != nil {
			return "", err
		}
		good, ok := v.Value().(bool)
		if !ok {
			return "", &EvalError{r.that.field, given(v, "a bool")}
		}
		if good {
			continue
		}
		if r.message != nil {
			if v, err := s.eval(r.message); err == nil {
				if said, ok := v.Value().(string); ok && strings.TrimSpace(said) != "" {
					return said, nil
				}
			}
		}
		return r.words, nil
	}
	return "", nil
}
