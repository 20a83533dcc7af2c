// Package charts renders the Helm chart in graven/ as Helm does without a
// cluster. A module of its own keeps Helm out of the product's requirements.
//
// The manifests exist once. The definitions, policies and roles are those of
// ../config, copied into the chart; what ../config/default has beside them is
// rendered from the chart. Both are done by make generate.
package charts

//go:generate go run ./generate

import (
	"context"
	"fmt"
	"strings"

	"helm.sh/helm/v4/pkg/action"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/release"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// A Release is what a chart is rendered for.
type Release struct {
	// Dir is the chart's directory.
	Dir             string
	Name, Namespace string
	// KubeVersion is the cluster's.
	KubeVersion string
	Values      map[string]any
}

// Rendered is what became of a chart.
type Rendered struct {
	// Objects are in the order in which Helm applies them, each with the
	// template that it is from in the annotation [Source].
	Objects []*unstructured.Unstructured
	// Hooks are what is run before, after, or as a test.
	Hooks []*unstructured.Unstructured
	Notes string
}

// Source is an annotation that Render adds: the template that an object is from,
// below templates/.
const Source = "charts/source"

// Render renders a chart.
func Render(r Release) (*Rendered, error) {
	chart, err := loader.Load(r.Dir)
	if err != nil {
		return nil, err
	}
	version, err := common.ParseKubeVersion(r.KubeVersion)
	if err != nil {
		return nil, err
	}
	install := action.NewInstall(action.NewConfiguration())
	install.DryRunStrategy = action.DryRunClient
	install.ReleaseName, install.Namespace, install.KubeVersion = r.Name, r.Namespace, version
	done, err := install.RunWithContext(context.Background(), chart, r.Values)
	if err != nil {
		return nil, err
	}
	made, err := release.NewAccessor(done)
	if err != nil {
		return nil, err
	}
	out := &Rendered{Notes: made.Notes()}
	if out.Objects, err = Objects(made.Manifest()); err != nil {
		return nil, err
	}
	for _, h := range made.Hooks() {
		hook, err := release.NewHookAccessor(h)
		if err != nil {
			return nil, err
		}
		objects, err := Objects("# Source: " + hook.Path() + "\n" + hook.Manifest())
		if err != nil {
			return nil, err
		}
		out.Hooks = append(out.Hooks, objects...)
	}
	return out, nil
}

// Objects decodes manifests, each of which may begin with the comment by which
// Helm tells its template. A field that stands twice is refused.
func Objects(manifests string) (objects []*unstructured.Unstructured, err error) {
	source := ""
	for _, text := range strings.Split("\n"+manifests, "\n---") {
		for line := range strings.Lines(text) {
			if path, ok := strings.CutPrefix(line, "# Source: "); ok {
				_, source, _ = strings.Cut(strings.TrimSpace(path), "templates/")
			}
		}
		o := &unstructured.Unstructured{}
		if err := yaml.UnmarshalStrict([]byte(text), &o.Object); err != nil {
			return nil, fmt.Errorf("%s: %w\n%s", source, err, text)
		}
		if len(o.Object) == 0 {
			continue
		}
		if o.GetKind() == "" || o.GetAPIVersion() == "" || o.GetName() == "" {
			return nil, fmt.Errorf("%s: not an object:\n%s", source, text)
		}
		annotations := o.GetAnnotations()
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[Source] = source
		o.SetAnnotations(annotations)
		objects = append(objects, o)
	}
	return objects, nil
}
