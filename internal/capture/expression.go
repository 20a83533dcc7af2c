package capture

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/ext"
	"github.com/google/cel-go/interpreter"
)

const (
	// MaxExpression bounds an expression, in bytes.
	MaxExpression = 8192
	// MaxCost bounds what all expressions of a policy may cost on one state, in
	// CEL's units: a simple operation is one, and ten bytes of text that is looked
	// through.
	MaxCost = 1_000_000
	// checkEvery is how many steps of a loop are taken until it is asked whether
	// the context has ended.
	checkEvery = 100
)

// kinds are what an expression may give.
type kinds []*cel.Type

var (
	anything  = kinds{cel.DynType}
	condition = kinds{cel.BoolType}
	words     = kinds{cel.StringType}
	list      = kinds{cel.ListType(cel.DynType)}
)

// An environment is what expressions may name.
type environment struct {
	env *cel.Env
	// optional is set where an expression may give nothing.
	optional bool
	err      error
}

// newEnvironment returns the environment of a place.
func newEnvironment(at string) *environment {
	options := []cel.EnvOption{
		cel.Variable("object", cel.DynType), cel.Variable("oldObject", cel.DynType),
		cel.Variable("operation", cel.StringType), cel.Variable("cluster", cel.StringType), cel.Variable("now", cel.TimestampType),
		cel.Function("sha256", cel.Overload("sha256_string", []*cel.Type{cel.StringType}, cel.StringType, cel.UnaryBinding(digest))),
		cel.OptionalTypes(), ext.Strings(), ext.Sets(), ext.Lists(), ext.TwoVarComprehensions(),
		cel.ParserExpressionSizeLimit(MaxExpression), cel.ParserRecursionLimit(64),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
	}
	if at == Admission {
		options = append(options, cel.Variable("request", cel.MapType(cel.StringType, cel.DynType)))
	}
	env, err := cel.NewEnv(options...)
	return &environment{env: env, err: err}
}

// digest is the SHA-256 of a text in UTF-8, in hexadecimal digits.
func digest(v ref.Val) ref.Val {
	text, ok := v.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(v)
	}
	sum := sha256.Sum256([]byte(text))
	return types.String(hex.EncodeToString(sum[:]))
}

// digestCost is what a digest costs: ten bytes are one, as where text is looked through.
func digestCost(args []ref.Val, _ ref.Val) *uint64 {
	cost := uint64(1)
	if text, ok := args[0].(types.String); ok {
		cost += uint64(len(text)) / 10
	}
	return &cost
}

func (e *environment) has(name string) bool {
	if e.err != nil {
		return false
	}
	for _, v := range e.env.Variables() {
		if v.Name() == name {
			return true
		}
	}
	return name == "item" || name == "request"
}

// declare adds a variable of an expression's type.
func (e *environment) declare(name string, x *expression) {
	if x == nil || e.err != nil {
		return
	}
	e.env, e.err = e.env.Extend(cel.Variable(name, x.kind))
}

// withItem returns the environment of what is said of each item of a list.
func (e *environment) withItem(each *expression) *environment {
	if e.err != nil {
		return e
	}
	of := cel.DynType
	if each != nil && each.kind.Kind() == cel.ListKind && len(each.kind.Parameters()) == 1 {
		of = each.kind.Parameters()[0]
	}
	env, err := e.env.Extend(cel.Variable("item", of))
	return &environment{env: env, err: err}
}

// An expression is one that compiled.
type expression struct {
	field   string // of the policy
	kind    *cel.Type
	program cel.Program
}

// compile compiles an expression, which is to give one of some kinds; nil if it is
// wrong.
func (c *compiler) compile(e *environment, at, text string, want kinds) *expression {
	if e.err != nil {
		c.fail(at, e.err.Error())
		return nil
	}
	if strings.TrimSpace(text) == "" {
		c.fail(at, "required")
		return nil
	}
	ast, issues := e.env.Compile(text)
	if issues.Err() != nil {
		for _, wrong := range issues.Errors() {
			c.fail(at, fmt.Sprintf("%d:%d: %s", wrong.Location.Line(), wrong.Location.Column()+1, wrong.Message))
		}
		return nil
	}
	if gives := ast.OutputType(); !want.take(gives) && !(e.optional && isOptional(gives) && want.take(gives.Parameters()[0])) {
		c.fail(at, fmt.Sprintf("it gives %s, and is to give %s", gives, want))
		return nil
	}
	program, err := e.env.Program(ast, cel.EvalOptions(cel.OptOptimize, cel.OptTrackCost), cel.CostLimit(MaxCost), cel.InterruptCheckFrequency(checkEvery), cel.CustomDecoratorV2(bounded),
		cel.CostTrackerOptions(interpreter.OverloadCostTracker("sha256_string", digestCost)))
	if err != nil {
		c.fail(at, err.Error())
		return nil
	}
	return &expression{field: at, kind: ast.OutputType(), program: program}
}

func isOptional(t *cel.Type) bool {
	return t.Kind() == types.OpaqueKind && t.TypeName() == "optional_type" && len(t.Parameters()) == 1
}

func (k kinds) take(t *cel.Type) bool {
	for _, want := range k {
		if want.Kind() == cel.DynKind || t.Kind() == cel.DynKind || want.IsAssignableType(t) {
			return true
		}
	}
	return false
}

// String implements fmt.Stringer.
func (k kinds) String() string {
	names := make([]string, len(k))
	for i, t := range k {
		names[i] = t.String()
	}
	return strings.Join(names, " or ")
}

// A scope is what an evaluation sees, and what it may still cost.
type scope struct {
	ctx     context.Context
	program *Program
	input   map[string]any
	item    ref.Val
	values  map[string]ref.Val // of variables, once they were asked for
	left    *uint64
}

// ResolveName implements cel.Activation. Variables are found out when they are
// needed.
func (s *scope) ResolveName(name string) (any, bool) {
	if name == "item" && s.item != nil {
		return s.item, true
	}
	if v, ok := s.input[name]; ok {
		return v, true
	}
	x, ok := s.program.variables[name]
	if !ok {
		return nil, false
	}
	v, ok := s.values[name]
	if !ok {
		whole := *s
		whole.item = nil
		var err error
		if v, err = whole.eval(x); err != nil {
			v = types.WrapErr(err)
		}
		s.values[name] = v
	}
	return v, true
}

// Parent implements cel.Activation.
func (s *scope) Parent() cel.Activation { return nil }

// errCost means that a policy costs too much on a state.
var errCost = errors.New("it costs more than a policy may on one state")

// eval returns what an expression gives.
func (s *scope) eval(x *expression) (ref.Val, error) {
	if *s.left == 0 {
		return nil, &EvalError{x.field, errCost}
	}
	v, details, err := x.program.ContextEval(s.ctx, s)
	if details != nil && details.ActualCost() != nil {
		cost := *details.ActualCost()
		if cost > *s.left {
			*s.left = 0
			return nil, &EvalError{x.field, errCost}
		}
		*s.left -= cost
	}
	if err != nil {
		var inner *EvalError
		if errors.As(err, &inner) { // a variable's
			return nil, inner
		}
		return nil, &EvalError{x.field, err}
	}
	return v, nil
}

// An EvalError says which expression of a policy failed.
type EvalError struct {
	Field string
	Err   error
}

func (e *EvalError) Error() string { return e.Field + ": " + e.Err.Error() }

func (e *EvalError) Unwrap() error { return e.Err }

// missing reports whether an expression failed for want of a member.
func missing(err error) bool {
	return strings.Contains(err.Error(), "no such key") || strings.Contains(err.Error(), "no such overload") && strings.Contains(err.Error(), "null")
}

// An Input is a state, or a request for one.
type Input struct {
	// Object is as the resource is now, and Old as it was; nil for none. They are
	// decoded JSON and are not changed.
	Object, Old map[string]any
	Operation   string // CREATE, UPDATE, DELETE or CONNECT
	// Request is what admission knows beside: name, namespace, subResource, dryRun,
	// options, and userInfo with username, uid, groups and extra.
	Request map[string]any
	Cluster string
	Now     time.Time
	// Counter counts for thresholds; without it, none is reached.
	Counter Counter
}

// A Counter counts what happens.
type Counter interface {
	// Reaches adds what happened at a time under a key, if it has not been added yet, and
	// reports whether it is what made it so many times within the time. It is once in
	// that time.
	Reaches(key, fact string, at time.Time, within time.Duration, times int) bool
}

// scope returns what a policy's expressions see of an input.
func (p *Program) scope(ctx context.Context, in *Input) *scope {
	var object, old any // null, and not an empty map
	if in.Object != nil {
		object = in.Object
	}
	if in.Old != nil {
		old = in.Old
	}
	left := uint64(MaxCost)
	return &scope{ctx: ctx, program: p, values: map[string]ref.Val{}, left: &left,
		input: map[string]any{"object": object, "oldObject": old, "operation": in.Operation, "request": in.Request, "cluster": in.Cluster, "now": in.Now}}
}
