package protection

import (
	"context"
	"fmt"
	"io/fs"
	"reflect"
	"regexp"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/config"
)

// policyName is the name of the policy that keeps AuditEvents, and of its binding.
const policyName = "graven-auditevents"

// A policy is what an API server is to refuse.
type policy struct {
	admissionv1.ValidatingAdmissionPolicy
	binding admissionv1.ValidatingAdmissionPolicyBinding
}

// readPolicy reads the policy as it is installed.
func readPolicy(ctx context.Context, api client.Reader) (*policy, error) {
	var p policy
	key := client.ObjectKey{Name: policyName}
	if err := api.Get(ctx, key, &p.ValidatingAdmissionPolicy); err != nil {
		return nil, fmt.Errorf("read the policy: %w", err)
	}
	if err := api.Get(ctx, key, &p.binding); err != nil {
		return nil, fmt.Errorf("read the policy's binding: %w", err)
	}
	return &p, nil
}

// since returns since when the policy counts: what was created before may name
// anybody.
func (p *policy) since() time.Time {
	since := p.CreationTimestamp.Time
	if at := p.binding.CreationTimestamp.Time; at.After(since) {
		since = at
	}
	return since.Add(policyTakesHold)
}

// policyTakesHold is how long an API server may take until a new policy counts.
const policyTakesHold = 10 * time.Second

// weaker returns in what way the policy refuses less than ours; empty for none. It
// is asked of what cannot be tried for lack of an AuditEvent to try it on.
func (p *policy) weaker() (string, error) {
	ours, err := ourPolicy()
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
	case narrow(spec.MatchConstraints):
		return "matchConstraints", nil
	case !denies(binding.ValidationActions) || binding.PolicyName != policyName:
		return "the binding's validationActions", nil
	case binding.MatchResources != nil:
		return "the binding's matchResources", nil
	}
	had := map[string]bool{}
	for _, v := range spec.Validations {
		had[squeezed(v.Expression)] = true
	}
	for _, v := range ours.Spec.Validations {
		if !had[squeezed(v.Expression)] {
			return "validations: " + v.Message + v.MessageExpression, nil
		}
	}
	variables := map[string]string{}
	for _, v := range spec.Variables {
		variables[v.Name] = squeezed(v.Expression)
	}
	for _, v := range ours.Spec.Variables {
		switch {
		case v.Name == "operator" || v.Name == "retires":
			if !oneOf.MatchString(variables[v.Name]) {
				return "variables: " + v.Name, nil
			}
		case variables[v.Name] != squeezed(v.Expression):
			return "variables: " + v.Name, nil
		}
	}
	return "", nil
}

// oneOf is an expression that names users.
var oneOf = regexp.MustCompile(`^request\.userInfo\.username(=="[^"]+"|in\["[^"]+"(,"[^"]+")*\])$`)

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
func narrow(m *admissionv1.MatchResources) bool {
	if m == nil || len(m.ExcludeResourceRules) > 0 {
		return true
	}
	for _, s := range []any{m.NamespaceSelector, m.ObjectSelector} {
		if v := reflect.ValueOf(s); !v.IsNil() && !v.Elem().IsZero() {
			return true
		}
	}
	need := map[admissionv1.OperationType]bool{admissionv1.Create: true, admissionv1.Update: true, admissionv1.Delete: true}
	for _, r := range m.ResourceRules {
		if len(r.ResourceNames) > 0 || r.Scope != nil && *r.Scope != admissionv1.AllScopes && *r.Scope != admissionv1.NamespacedScope ||
			!has(r.APIGroups, v1alpha1.GroupVersion.Group) || !has(r.APIVersions, v1alpha1.GroupVersion.Version) || !has(r.Resources, "auditevents") {
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

// ourPolicy returns the policy that Graven ships.
func ourPolicy() (*admissionv1.ValidatingAdmissionPolicy, error) {
	text, err := fs.ReadFile(config.Policies, "policies/auditevents.yaml")
	if err != nil {
		return nil, err
	}
	var p admissionv1.ValidatingAdmissionPolicy
	if err := yaml.NewYAMLOrJSONDecoder(strings.NewReader(string(text)), len(text)).Decode(&p); err != nil {
		return nil, fmt.Errorf("our own policy: %w", err)
	}
	return &p, nil
}
