package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/testenv"
)

// TestMain is the controller's program, where it is told to be.
func TestMain(m *testing.M) {
	if dir := os.Getenv("REMEDIATOR_DIR"); dir != "" {
		if calls, err := strconv.Atoi(os.Getenv("REMEDIATOR_CALLS")); err == nil {
			if err := twice(dir, calls); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
		os.Args = []string{"remediator", dir}
		main()
		return
	}
	os.Exit(m.Run())
}

// serve starts a Graven server, which ends with the test.
func serve(t *testing.T) (url, token string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	a, err := app.New(t.Context(), app.Config{Data: dir, Listen: "127.0.0.1:0"}, "test", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	text, err := os.ReadFile(filepath.Join(dir, datadir.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	return a.URL(), strings.TrimSpace(string(text))
}

// TestAControllerThatIsKilledAgainAndAgainHasRecordedEachStepOnce has plans
// executed by a controller that is killed at any moment.
func TestAControllerThatIsKilledAgainAndAgainHasRecordedEachStepOnce(t *testing.T) {
	k := testenv.StartKube(t, testenv.KubeOptions{})
	for _, name := range []string{"issues", "remediationplans"} {
		text, err := fs.ReadFile(config.CRDs, "crd/platform.chatcli.io_"+name+".yaml")
		if err != nil {
			t.Fatal(err)
		}
		k.Apply(testenv.KubeAdmin, string(text))
	}
	k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	url, token := serve(t)
	dir := t.TempDir()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	const plans = 100
	var manifests strings.Builder
	for i := range plans {
		fmt.Fprintf(&manifests, `---
apiVersion: platform.chatcli.io/v1alpha1
kind: RemediationPlan
metadata: {name: plan-%d, namespace: default}
spec: {issueRef: {name: issue-%[1]d}, attempt: 1, strategy: roll back, actions: [{type: RollbackDeployment, params: {deployment: a}}, {type: RollbackDeployment, params: {deployment: b}}]}
`, i)
	}
	k.Apply(testenv.KubeAdmin, manifests.String())
	completed := func() bool {
		out := k.Kubectl(testenv.KubeAdmin, "get", "rp", "-o", "jsonpath={.items[*].status.state}")
		return strings.Count(out, "Completed") == plans
	}
	kills := 0
	end := time.Now().Add(5 * time.Minute)
	for last := false; !last; {
		if time.Now().After(end) {
			t.Fatal("the plans do not get on")
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "REMEDIATOR_DIR="+dir, "GRAVEN_URL="+url, "GRAVEN_TOKEN="+token, "KUBECONFIG="+k.Kubeconfig(testenv.KubeAdmin))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if last = completed(); last {
			time.Sleep(5 * time.Second) // for those that were completed and not recorded yet
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			break
		}
		time.Sleep(time.Duration(250+rng.IntN(300)+50*kills) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		kills++
	}
	t.Logf("killed %d times", kills)
	c, err := client.New(client.Config{URL: url, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	var page struct{ Events []*event.Event }
	if err := c.Get(t.Context(), "/api/v1/audit", map[string][]string{"kind": {"RemediationPlan"}, "limit": {"1000"}}, &page); err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, e := range page.Events {
		var d struct{ Target string }
		if err := json.Unmarshal(e.Details, &d); err != nil {
			t.Fatal(err)
		}
		told[strings.Join([]string{e.Resource.Name, e.CorrelationID, e.EventType, d.Target}, " ")]++
	}
	for i := range plans {
		for _, what := range []string{"RemediationExecuted deployment/a", "RemediationExecuted deployment/b", "RemediationSucceeded "} {
			if n := told[fmt.Sprintf("plan-%d issue-%[1]d %s", i, what)]; n != 1 {
				t.Errorf("plan-%d: %s is recorded %d times", i, what, n)
			}
		}
	}
	if len(page.Events) != 3*plans {
		t.Errorf("%d events, want %d", len(page.Events), 3*plans)
	}
}
