package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/yaml"
)

func TestTheManifestsHaveFlagsThatThereAre(t *testing.T) {
	text, err := os.ReadFile("../../config/default/operator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(strings.Split(string(text), "\n---"), func(part string) bool { return strings.Contains(part, "kind: Deployment") })
	if i < 0 {
		t.Fatal("no Deployment")
	}
	var d appsv1.Deployment
	if err := yaml.Unmarshal([]byte(strings.Split(string(text), "\n---")[i]), &d); err != nil {
		t.Fatal(err)
	}
	args := d.Spec.Template.Spec.Containers[0].Args
	if len(args) < 5 {
		t.Fatal(args)
	}
	if err := command().ParseFlags(args); err != nil {
		t.Error(err)
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"--server is required": {"--spool-dir", "x"},
		"--ca-file: ":          {"--server", "https://127.0.0.1:1", "--ca-file", "nowhere"},
		"unknown command":      {"x"},
		"is not the address":   {"--server", "ftp://x"},
	} {
		cmd := command()
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
