package protection

import (
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	file = "policies/auditevents.yaml"
	self = "system:serviceaccount:elsewhere:graven-operator"
)

// installed is our policy as the chart installs it elsewhere.
func installed(t *testing.T) *policy {
	t.Helper()
	ours, err := ourPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &policy{ValidatingAdmissionPolicy: *ours}
	p.binding.Spec = admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: ours.Name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}}
	p.Spec.MatchConstraints.NamespaceSelector, p.Spec.MatchConstraints.ObjectSelector = &metav1.LabelSelector{}, &metav1.LabelSelector{}
	for i := range p.Spec.Variables {
		v := &p.Spec.Variables[i]
		v.Expression = strings.ReplaceAll(v.Expression, "graven-system", "elsewhere")
	}
	return p
}

func TestThePolicyAsItIsInstalledIsNotWeaker(t *testing.T) {
	if why, err := installed(t).weaker(file, self); why != "" || err != nil {
		t.Error(why, err)
	}
}

func TestAPolicyThatRefusesLessIsWeaker(t *testing.T) {
	ignore, selects := admissionv1.Ignore, &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}
	for name, weaken := range map[string]func(p *policy){
		"it only warns": func(p *policy) { p.binding.Spec.ValidationActions = []admissionv1.ValidationAction{admissionv1.Warn} },
		"it is bound to some namespaces": func(p *policy) {
			p.binding.Spec.MatchResources = &admissionv1.MatchResources{NamespaceSelector: selects}
		},
		"the binding is another's": func(p *policy) { p.binding.Spec.PolicyName = "another" },
		"errors let pass":          func(p *policy) { p.Spec.FailurePolicy = &ignore },
		"it has conditions": func(p *policy) {
			p.Spec.MatchConditions = []admissionv1.MatchCondition{{Name: "a", Expression: "false"}}
		},
		"it has parameters": func(p *policy) { p.Spec.ParamKind = &admissionv1.ParamKind{} },
		"some namespaces":   func(p *policy) { p.Spec.MatchConstraints.NamespaceSelector = selects },
		"some objects":      func(p *policy) { p.Spec.MatchConstraints.ObjectSelector = selects },
		"some names":        func(p *policy) { p.Spec.MatchConstraints.ResourceRules[0].ResourceNames = []string{"a"} },
		"nothing":           func(p *policy) { p.Spec.MatchConstraints = nil },
		"another resource":  func(p *policy) { p.Spec.MatchConstraints.ResourceRules[0].Resources = []string{"auditevents/status"} },
		"but for some": func(p *policy) {
			p.Spec.MatchConstraints.ExcludeResourceRules = p.Spec.MatchConstraints.ResourceRules
		},
		"creations only": func(p *policy) {
			p.Spec.MatchConstraints.ResourceRules[0].Operations = []admissionv1.OperationType{admissionv1.Create}
		},
		"a rule less":          func(p *policy) { p.Spec.Validations = p.Spec.Validations[:len(p.Spec.Validations)-1] },
		"a rule is void":       func(p *policy) { p.Spec.Validations[3].Expression = "true" },
		"anybody retires":      func(p *policy) { p.Spec.Variables[1].Expression = "true" },
		"anybody retires, too": func(p *policy) { p.Spec.Variables[1].Expression += ` || true` },
		"another word in a rule": func(p *policy) {
			v := &p.Spec.Validations[len(p.Spec.Validations)-1]
			v.Expression = strings.Replace(v.Expression, "'DELETE'", "'DEL ETE'", 1)
		},
		"one version": func(p *policy) { p.Spec.MatchConstraints.ResourceRules[0].APIVersions = []string{"v1alpha1"} },
		"others are operators": func(p *policy) {
			p.Spec.Variables[0].Expression = `request.userInfo.username in ["` + self + `", "jane"]`
		},
		"another is operator": func(p *policy) { p.Spec.Variables[0].Expression = `request.userInfo.username == "jane"` },
		"no receipts":         func(p *policy) { p.Spec.Variables[len(p.Spec.Variables)-1].Expression = "[]" },
	} {
		t.Run(name, func(t *testing.T) {
			p := installed(t)
			weaken(p)
			if why, err := p.weaker(file, self); why == "" || err != nil {
				t.Error("it counts as ours", err)
			}
		})
	}
}
