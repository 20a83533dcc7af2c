package protection

import (
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/config"
)

// definitionName is the name of AuditEvents' CustomResourceDefinition.
const definitionName = "auditevents.platform.chatcli.io"

// A Definition is how an API server serves AuditEvents, held against ours: where
// ChatCLI is installed, it is ChatCLI's.
type Definition struct {
	// Lacks are the fields of ours that it drops, as spec.resource.apiVersion.
	Lacks []string
	// rule is set if a change of spec is refused.
	rule bool
	// respelled is set if it knows correlationId only.
	respelled bool
}

// readDefinition holds what is served against ours.
func readDefinition(served *unstructured.Unstructured) (*Definition, error) {
	text, err := fs.ReadFile(config.CRDs, "crd/platform.chatcli.io_auditevents.yaml")
	if err != nil {
		return nil, err
	}
	var ours map[string]any
	if err := yaml.Unmarshal(text, &ours); err != nil {
		return nil, err
	}
	want, err := specSchema(ours)
	if err != nil {
		return nil, fmt.Errorf("our own definition: %w", err)
	}
	have, err := specSchema(served.Object)
	if err != nil {
		return nil, err
	}
	d := &Definition{Lacks: lacking("spec", want, have)}
	d.rule = ruled(served.Object)
	properties, _, _ := unstructured.NestedMap(have, "properties")
	_, ours1 := properties["correlationID"]
	_, theirs := properties["correlationId"]
	d.respelled = theirs && !ours1
	return d, nil
}

// ruled reports whether every version that is served refuses a change of spec: what
// one lets pass, the others show.
func ruled(crd map[string]any) bool {
	versions, _, _ := unstructured.NestedSlice(crd, "spec", "versions")
	for _, v := range versions {
		version, _ := v.(map[string]any)
		if served, _ := version["served"].(bool); !served {
			continue
		}
		rules, _, _ := unstructured.NestedSlice(version, "schema", "openAPIV3Schema", "properties", "spec", "x-kubernetes-validations")
		if !slices.ContainsFunc(rules, func(r any) bool {
			rule, _ := r.(map[string]any)
			text, _ := rule["rule"].(string)
			return squeezed(text) == "self==oldSelf"
		}) {
			return false
		}
	}
	return len(versions) > 0
}

// specSchema returns the schema of spec in the version that is ours.
func specSchema(crd map[string]any) (map[string]any, error) {
	versions, _, err := unstructured.NestedSlice(crd, "spec", "versions")
	if err != nil {
		return nil, err
	}
	for _, v := range versions {
		version, _ := v.(map[string]any)
		if name, _ := version["name"].(string); name == v1alpha1.GroupVersion.Version {
			schema, _, err := unstructured.NestedMap(version, "schema", "openAPIV3Schema", "properties", "spec")
			return schema, err
		}
	}
	return nil, fmt.Errorf("%s does not define the version %s", definitionName, v1alpha1.GroupVersion.Version)
}

// lacking returns the fields below path that one schema has and the other lacks.
func lacking(path string, want, have map[string]any) []string {
	if keeps, _ := have["x-kubernetes-preserve-unknown-fields"].(bool); keeps {
		return nil
	}
	wanted, _, _ := unstructured.NestedMap(want, "properties")
	had, _, _ := unstructured.NestedMap(have, "properties")
	var lacks []string
	for name, w := range wanted {
		h, ok := had[name].(map[string]any)
		if !ok {
			lacks = append(lacks, path+"."+name)
			continue
		}
		if w, ok := w.(map[string]any); ok {
			lacks = append(lacks, lacking(path+"."+name, w, h)...)
		}
	}
	slices.Sort(lacks)
	return lacks
}

// Adapt spells a spec as the definition does.
func (d *Definition) Adapt(spec map[string]any) {
	if id, ok := spec["correlationID"]; ok && d.respelled {
		delete(spec, "correlationID")
		spec["correlationId"] = id
	}
}

// Prune takes from an object what the API server drops from it.
func (d *Definition) Prune(object map[string]any) {
	for _, path := range d.Lacks {
		unstructured.RemoveNestedField(object, strings.Split(path, ".")...)
	}
}
