package retention

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/ext"

	"github.com/graven-audit/graven/event"
)

const (
	// MaxExpression bounds an expression, in bytes.
	MaxExpression = 4096
	// maxCost bounds what an expression may cost on one event, in CEL's units:
	// a simple operation is one, and ten bytes of text that is looked through.
	maxCost = 200_000
)

// A Subject is an entry that something is decided about.
type Subject struct {
	Index int64
	Event *event.Event
	// Erased is set where the erasable content is gone.
	Erased bool

	members map[string]any // as expressions see them
}

// An object is a type of the event as expressions see it: the native form, in
// which every member is there.
type object map[string]*types.Type

var (
	text  = types.StringType
	whole = types.IntType
	truth = types.BoolType
	when  = types.TimestampType
)

// objects are the types by their names.
var objects = map[string]object{
	"graven.event": {"id": text, "name": text, "eventType": text, "timestamp": when, "actor": types.NewObjectType("graven.actor"),
		"resource": types.NewObjectType("graven.resource"), "category": text, "action": text, "outcome": text, "severity": text,
		"correlationID": text, "parentID": text, "cluster": text, "fact": text, "details": types.NewMapType(text, types.DynType),
		"durationMs": whole, "error": types.NewObjectType("graven.error"), "retentionDays": whole, "sensitive": truth,
		"source": types.NewObjectType("graven.source"), "original": types.NewMapType(text, text),
		"recorded": types.NewObjectType("graven.recorded"), "index": whole},
	"graven.actor":    {"type": text, "name": text, "serviceAccount": text, "controller": text},
	"graven.resource": {"apiVersion": text, "kind": text, "namespace": text, "name": text, "uid": text},
	"graven.error":    {"code": text, "message": text},
	"graven.source":   {"name": text, "epoch": text, "seq": whole},
	"graven.recorded": {"at": when, "principal": text, "via": text, "attribution": text, "uncatalogued": truth},
}

// seen returns the subject as expressions see it.
func (s *Subject) seen() map[string]any {
	if s.members != nil {
		return s.members
	}
	e := s.Event
	var details map[string]any
	if len(e.Details) == 0 || json.Unmarshal(e.Details, &details) != nil {
		details = map[string]any{} // it is canonical JSON of an object, or nothing
	}
	original, parent := e.Original, ""
	if original == nil {
		original = map[string]string{}
	}
	if !e.ParentID.IsZero() {
		parent = e.ParentID.String()
	}
	a, r, rec := &e.Actor, &e.Resource, &e.Recorded
	s.members = map[string]any{"id": e.ID.String(), "name": e.Name, "eventType": e.EventType, "timestamp": e.Timestamp,
		"actor":    map[string]any{"type": a.Type, "name": a.Name, "serviceAccount": a.ServiceAccount, "controller": a.Controller},
		"resource": map[string]any{"apiVersion": r.APIVersion, "kind": r.Kind, "namespace": r.Namespace, "name": r.Name, "uid": r.UID},
		"category": e.Category, "action": e.Action, "outcome": e.Outcome, "severity": e.Severity, "correlationID": e.CorrelationID,
		"parentID": parent, "cluster": e.Cluster, "fact": e.Fact, "details": details, "durationMs": e.DurationMs,
		"error":         map[string]any{"code": e.Error.Code, "message": e.Error.Message},
		"retentionDays": int64(e.RetentionDays), "sensitive": e.Sensitive,
		"source": map[string]any{"name": e.Source.Name, "epoch": e.Source.Epoch, "seq": e.Source.Seq}, "original": original,
		"recorded": map[string]any{"at": rec.At, "principal": rec.Principal, "via": rec.Via, "attribution": rec.Attribution,
			"uncatalogued": rec.Uncatalogued},
		"index": s.Index}
	return s.members
}

// A provider tells CEL of the event's types.
type provider struct{ *types.Registry }

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if _, ok := objects[name]; ok {
		return types.NewTypeTypeWithParam(types.NewObjectType(name)), true
	}
	return p.Registry.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if o, ok := objects[name]; ok {
		return slices.Sorted(maps.Keys(o)), true
	}
	return p.Registry.FindStructFieldNames(name)
}

func (p provider) FindStructFieldType(name, field string) (*types.FieldType, bool) {
	o, ok := objects[name]
	if !ok {
		return p.Registry.FindStructFieldType(name, field)
	}
	t, ok := o[field]
	if !ok {
		return nil, false
	}
	return &types.FieldType{Type: t,
		IsSet:   func(any) bool { return true },
		GetFrom: func(of any) (any, error) { return of.(map[string]any)[field], nil }}, true
}

// erasable are the parts of an event that may have been erased.
var erasable = []*cel.AttributePatternType{
	cel.AttributePattern("event").QualString("details"),
	cel.AttributePattern("event").QualString("error").QualString("message"),
	cel.AttributePattern("event").QualString("original"),
}

var environment = sync.OnceValues(func() (*cel.Env, error) {
	registry, err := types.NewRegistry()
	if err != nil {
		return nil, err
	}
	return cel.NewEnv(
		cel.CustomTypeAdapter(registry), cel.CustomTypeProvider(provider{registry}),
		cel.Variable("event", cel.ObjectType("graven.event")),
		ext.Strings(),
		cel.ParserExpressionSizeLimit(MaxExpression),
		cel.ParserRecursionLimit(64),
	)
})

// An Expression is a condition in CEL over the event.
type Expression struct {
	Text    string
	program cel.Program
}

// Compile reads an expression. What is wrong with it is told with its position.
func Compile(text string) (*Expression, error) {
	if len(text) > MaxExpression {
		return nil, fmt.Errorf("%d bytes, the limit is %d", len(text), MaxExpression)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("prepare expressions: %w", err)
	}
	ast, issues := env.Compile(text)
	if errs := issues.Errors(); len(errs) > 0 {
		first := errs[0]
		return nil, fmt.Errorf("line %d, column %d: %s", first.Location.Line(), first.Location.Column()+1, plain(first.Message))
	}
	if !ast.OutputType().IsExactType(types.BoolType) {
		return nil, fmt.Errorf("line 1, column 1: gives a %s, and a condition is true or false", ast.OutputType())
	}
	program, err := env.Program(ast, cel.CostLimit(maxCost), cel.EvalOptions(cel.OptOptimize, cel.OptPartialEval))
	if err != nil {
		return nil, fmt.Errorf("line 1, column 1: %s", plain(err.Error()))
	}
	return &Expression{Text: text, program: program}, nil
}

// plain returns a message on one line.
func plain(message string) string {
	return strings.Join(strings.Fields(message), " ")
}

// Match reports whether the condition is true of the subject. Where that cannot
// be told, unsure says why.
func (x *Expression) Match(s *Subject) (is bool, unsure error) {
	var input any = map[string]any{"event": s.seen()}
	if s.Erased {
		partial, err := cel.PartialVars(input, erasable...)
		if err != nil {
			return false, err
		}
		input = partial
	}
	out, _, err := x.program.Eval(input)
	switch {
	case err != nil && isAbsent(err):
		return false, nil // of an event that lacks what is asked for, it is not true
	case err != nil:
		return false, fmt.Errorf("entry %d: %s", s.Index, plain(err.Error()))
	case types.IsUnknown(out):
		return false, fmt.Errorf("entry %d: what decides was erased", s.Index)
	}
	return out == types.True, nil
}

// isAbsent reports whether an event is not as an expression supposes: its
// details lack a member, or have one of another type.
func isAbsent(err error) bool {
	text := err.Error()
	return strings.Contains(text, "no such key") || strings.Contains(text, "no such overload") ||
		strings.Contains(text, "no such attribute") || strings.Contains(text, "index out of bounds")
}
