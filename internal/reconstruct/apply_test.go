package reconstruct_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/demo"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/reconstruct"
	"github.com/graven-audit/graven/internal/testenv"
)

// TestAnAPIServerTakesWhatIsReconstructed gives what is made of lives, at many of their
// moments, to a real API server, which holds it against the definitions of both products:
// a member that the schema has not is refused as one that it lacks.
func TestAnAPIServerTakesWhatIsReconstructed(t *testing.T) {
	k := testenv.StartKube(t, testenv.KubeOptions{})
	definitions, err := filepath.Glob("../../config/crd/platform.chatcli.io_*.yaml")
	if err != nil || len(definitions) == 0 {
		t.Fatal("no definitions", err)
	}
	for _, name := range append(definitions, "testdata/crd/kubernaut.yaml") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		k.Apply(testenv.KubeAdmin, string(text))
	}
	k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	for _, namespace := range []string{"production", "payments", "checkout", "search"} {
		k.Kubectl(testenv.KubeAdmin, "create", "namespace", namespace)
	}
	lives := map[string][]fact.Telling{"kubernaut": request(t).told, "without a signal": request(t).told[1:], "hostile": hostile(t).told}
	for _, story := range demo.Incidents(1) {
		var told []fact.Telling
		for i, e := range story.Events {
			e.Complete(at)
			told = append(told, fact.Telling{Index: int64(i), Event: e})
		}
		lives["chatcli "+story.CorrelationID] = told
	}
	tried := 0
	for name, told := range lives {
		moments := []time.Time{{}, told[0].Event.Timestamp, told[len(told)/2].Event.Timestamp}
		for _, moment := range moments {
			objects, text := yaml(t, told, reconstruct.Question{At: moment})
			if len(objects) == 0 {
				continue
			}
			tried++
			if out, err := k.TryKubectl(testenv.KubeAdmin, text, "apply", "--dry-run=server", "-f", "-"); err != nil {
				t.Errorf("%s at %s: %v: %s\n%s", name, moment, err, out, text)
			} else if n := strings.Count(out, "(server dry run)"); n != len(objects) {
				t.Errorf("%s at %s: %d of %d objects: %s", name, moment, n, len(objects), out)
			}
		}
	}
	if tried < 30 {
		t.Errorf("%d were tried", tried)
	}
	// What was taken from a cluster goes back to one: applied in earnest, shown, deleted.
	_, text := yaml(t, request(t).told, reconstruct.Question{Kind: "RemediationRequest"})
	k.Apply(testenv.KubeAdmin, string(text))
	if phase := k.Kubectl(testenv.KubeAdmin, "get", "remediationrequest", "rr-1", "-n", "production", "-o", "jsonpath={.spec.signalName} {.metadata.finalizers}"); strings.TrimSpace(phase) != "KubePodCrashLooping" {
		t.Errorf("it has %q", phase)
	}
	k.Kubectl(testenv.KubeAdmin, "delete", "remediationrequest", "rr-1", "-n", "production", "--timeout=10s")
}
