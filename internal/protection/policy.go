package protection

import (
	"context"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/config"
)

// A policy is what an API server is to refuse.
type policy struct {
	admissionv1.ValidatingAdmissionPolicy
	binding admissionv1.ValidatingAdmissionPolicyBinding
}

// readPolicy reads a policy, and the binding of its name, as they are installed.
func readPolicy(ctx context.Context, api client.Reader, name string) (*policy, error) {
	var p policy
	key := client.ObjectKey{Name: name}
	if err := api.Get(ctx, key, &p.ValidatingAdmissionPolicy); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	if err := api.Get(ctx, key, &p.binding); err != nil {
		return nil, fmt.Errorf("read the policy's binding: %w", err)
	}
	return &p, nil
}

// since returns when the policy was made or, as far as it tells, changed.
func (p *policy) since() time.Time {
	var since time.Time
	for _, o := range []metav1.ObjectMeta{p.ObjectMeta, p.binding.ObjectMeta} {
		times := []metav1.Time{o.CreationTimestamp}
		for _, f := range o.ManagedFields {
			if f.Time != nil && f.Subresource == "" {
				times = append(times, *f.Time)
			}
		}
		for _, at := range times {
			if at.After(since) {
				since = at.Time
			}
		}
	}
	return since
}

// policyTakesHold is how long an API server may take until a new policy counts.
const policyTakesHold = 10 * time.Second

// weaker returns in what way the policy refuses less than ours, which is in a file;
// empty for none. It is asked of what cannot be tried: for lack of an AuditEvent to try
// it on, or as another user.
func (p *policy) weaker(file, self string) (string, error) {
	ours, err := ourPolicy(file)
	if err != nil {
		return "", err
	}
	spec, binding := &p.Spec, &p.binding.Spec
	switch {
	case spec.FailurePolicy != nil && *spec.FailurePolicy != admissionv1.Fail:
		return "failurePolicy", nil
	case len(spec.MatchConditions) > 0:
		return "matchConditions", nil
	case spec.ParamKind != nil:
		return "paramKind", nil
	case narrow(spec.MatchConstraints, ours.Spec.MatchConstraints):
		return "matchConstraints", nil
	case !denies(binding.ValidationActions) || binding.PolicyName != p.Name:
		return "the binding's validationActions", nil
	case binding.MatchResources != nil:
		return "the binding's matchResources", nil
	}
	had := map[string]bool{}
	for _, v := range spec.Validations {
		had[folded(v.Expression)] = true
	}
	for _, v := range ours.Spec.Validations {
		if !had[folded(v.Expression)] {
			return "validations: " + v.Message + v.MessageExpression, nil
		}
	}
	variables := map[string]string{}
	for _, v := range spec.Variables {
		variables[v.Name] = folded(v.Expression)
	}
	for _, v := range ours.Spec.Variables {
		switch {
		case v.Name == "operator":
			if variables[v.Name] != `request.userInfo.username == "`+self+`"` {
				return "variables: operator", nil
			}
		case v.Name == "retires":
			if !oneOf.MatchString(variables[v.Name]) {
				return "variables: " + v.Name, nil
			}
		case variables[v.Name] != folded(v.Expression):
			return "variables: " + v.Name, nil
		}
	}
	return "", nil
}

// retires returns who may delete AuditEvents by the policy, separated by commas.
func (p *policy) retires() string {
	for _, v := range p.Spec.Variables {
		if v.Name == "retires" {
			var names []string
			for _, m := range quoted.FindAllStringSubmatch(v.Expression, -1) {
				names = append(names, m[1])
			}
			return strings.Join(names, ",")
		}
	}
	return ""
}

var quoted = regexp.MustCompile(`"([^"]+)"`)

// oneOf is an expression that names users.
var oneOf = regexp.MustCompile(`^request\.userInfo\.username (== "[^"]+"|in \[ ?"[^"]+"(, "[^"]+")* ?\])$`)

// folded returns an expression on one line.
func folded(expression string) string { return strings.Join(strings.Fields(expression), " ") }

// squeezed returns an expression without white space.
func squeezed(expression string) string { return strings.Join(strings.Fields(expression), "") }

func denies(actions []admissionv1.ValidationAction) bool {
	for _, a := range actions {
		if a == admissionv1.Deny {
			return true
		}
	}
	return false
}

// narrow reports whether some requests for AuditEvents do not match.
func narrow(m, ours *admissionv1.MatchResources) bool {
	if m == nil || len(m.ExcludeResourceRules) > 0 {
		return true
	}
	for _, s := range []any{m.NamespaceSelector, m.ObjectSelector} {
		if v := reflect.ValueOf(s); !v.IsNil() && !v.Elem().IsZero() {
			return true
		}
	}
	need := map[admissionv1.OperationType]bool{}
	for _, o := range ours.ResourceRules[0].Operations {
		need[o] = true
	}
	for _, r := range m.ResourceRules {
		if len(r.ResourceNames) > 0 || r.Scope != nil && *r.Scope != admissionv1.AllScopes && *r.Scope != admissionv1.NamespacedScope ||
			!has(r.APIGroups, v1alpha1.GroupVersion.Group) || !slices.Contains(r.APIVersions, "*") || !has(r.Resources, "auditevents") {
			continue
		}
		for _, o := range r.Operations {
			if o == admissionv1.OperationAll {
				clear(need)
			}
			delete(need, o)
		}
	}
	return len(need) > 0
}

func has(list []string, want string) bool {
	for _, s := range list {
		if s == want || s == "*" || s == "*/*" {
			return true
		}
	}
	return false
}

// ourPolicy returns the policy that Graven ships in a file.
func ourPolicy(file string) (*admissionv1.ValidatingAdmissionPolicy, error) {
	text, err := fs.ReadFile(config.Policies, file)
	if err != nil {
		return nil, err
	}
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(text)), len(text))
	for {
		var p admissionv1.ValidatingAdmissionPolicy
		if err := documents.Decode(&p); err != nil {
			return nil, fmt.Errorf("our own policy in %s: %w", file, err)
		}
		if p.Kind == "ValidatingAdmissionPolicy" {
			return &p, nil
		}
	}
}
