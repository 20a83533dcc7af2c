// Command generate copies the manifests of config into the chart, and renders
// from the chart what config/default has beside them.
package main

import (
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/charts"
)

const (
	source = "../config"
	chart  = "graven"
)

func main() {
	log.SetFlags(0)
	if err := generate(); err != nil {
		log.Fatal("generate: ", err)
	}
}

func generate() error {
	for _, dir := range []string{"audit", "crd", "policies", "rbac"} {
		if err := copyDir(filepath.Join(source, dir), filepath.Join(chart, "files", dir)); err != nil {
			return err
		}
	}
	for _, part := range parts {
		if err := part.write(); err != nil {
			return fmt.Errorf("%s: %w", part.dir, err)
		}
	}
	return nil
}

// copyDir makes one directory have the manifests of another.
func copyDir(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "kustomization.yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		name = filepath.Join(to, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		return os.WriteFile(name, append([]byte("# make generate copies this from config.\n"), text...), 0o644)
	})
}

// A part is a directory of config with objects that are rendered from the chart.
type part struct {
	dir    string
	values map[string]any
	// files has, by template, the file that its objects go to. What is of none of
	// the templates is elsewhere in config.
	files map[string]string
}

type values = map[string]any

var parts = []part{
	{"default", values{}, map[string]string{
		"namespaces.yaml":          "namespaces.yaml",
		"roles.yaml":               "retention.yaml",
		"server/configmap.yaml":    "server.yaml",
		"server/rbac.yaml":         "server.yaml",
		"server/service.yaml":      "server.yaml",
		"server/workload.yaml":     "server.yaml",
		"operator/rbac.yaml":       "operator.yaml",
		"operator/service.yaml":    "operator.yaml",
		"operator/deployment.yaml": "operator.yaml",
	}},
	{"components/cert-manager", values{"tls": values{"certManager": values{"issuerRef": values{"kind": "Issuer", "name": "graven"}}}}, map[string]string{
		"server/certificate.yaml": "certificate.yaml",
	}},
	{"components/network-policy", values{"networkPolicy": values{"enabled": true}}, map[string]string{
		"server/networkpolicy.yaml":   "server.yaml",
		"operator/networkpolicy.yaml": "operator.yaml",
	}},
	{"components/prometheus", values{
		"serviceMonitor": values{"enabled": true, "tokenSecret": values{"name": "graven-metrics"}},
		"prometheusRule": values{"enabled": true}, "dashboard": values{"enabled": true}}, map[string]string{
		"monitoring/servicemonitor.yaml": "monitors.yaml",
		"monitoring/prometheusrule.yaml": "rules.yaml",
		"monitoring/dashboard.yaml":      "dashboard.yaml",
	}},
	{"components/chatcli-superadmin", values{"chatcli": values{"superadmin": values{"create": true}}}, map[string]string{
		"chatcli/superadmin.yaml": "superadmin.yaml",
	}},
}

func (p part) write() error {
	rendered, err := charts.Render(charts.Release{Dir: chart, Name: "graven", Namespace: "graven-system", KubeVersion: "v1.36.0", Values: p.values})
	if err != nil {
		return err
	}
	files := map[string][]byte{}
	for _, o := range rendered.Objects {
		file := p.files[o.GetAnnotations()[charts.Source]]
		if file == "" || o.GetKind() == "ClusterRole" && o.GetAnnotations()[charts.Source] == "roles.yaml" {
			continue // the roles stand in config/rbac
		}
		text, err := yaml.Marshal(plain(o).Object)
		if err != nil {
			return err
		}
		if files[file] == nil {
			files[file] = []byte("# make generate renders this from charts/graven.\n")
		}
		files[file] = append(append(files[file], "---\n"...), text...)
	}
	if want := slices.Compact(slices.Sorted(maps.Values(p.files))); len(files) != len(want) {
		return fmt.Errorf("%q were rendered, of %q", slices.Sorted(maps.Keys(files)), want)
	}
	dir := filepath.Join(source, p.dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// plain takes from an object what is Helm's.
func plain(o *unstructured.Unstructured) *unstructured.Unstructured {
	o = o.DeepCopy()
	for _, at := range [][]string{{"metadata"}, {"spec", "template", "metadata"}} {
		for _, in := range []string{"labels", "annotations"} {
			path := append(slices.Clone(at), in)
			m, ok, err := unstructured.NestedStringMap(o.Object, path...)
			if err != nil || !ok {
				continue
			}
			for name := range m {
				if strings.HasPrefix(name, "helm.sh/") || strings.HasPrefix(name, "charts/") || strings.HasPrefix(name, "checksum/") ||
					name == "app.kubernetes.io/managed-by" || name == "app.kubernetes.io/version" {
					delete(m, name)
				}
			}
			if len(m) == 0 {
				unstructured.RemoveNestedField(o.Object, path...)
			} else if err := unstructured.SetNestedStringMap(o.Object, m, path...); err != nil {
				log.Fatal(err) // what was a map of strings is one
			}
		}
	}
	return o
}
