package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/testenv"
)

// record records an event of an incident, and returns its name.
func (b *bed) record(incident string, at time.Time) string {
	b.t.Helper()
	e := &event.Event{EventType: "RemediationExecuted", Timestamp: at, Actor: event.Actor{Type: "controller", Name: "x"},
		Resource: event.Resource{Kind: "RemediationPlan", Name: "plan", Namespace: "production"}, CorrelationID: incident}
	if err := e.SetDetails(map[string]string{"secret": "of " + incident}); err != nil {
		b.t.Fatal(err)
	}
	r, err := b.server.admin.RecordSync(b.t.Context(), e)
	if err != nil {
		b.t.Fatal(err)
	}
	return r.Name
}

// mirrored returns the mirrors of an incident.
func (b *bed) mirrored(incident string) []string {
	b.t.Helper()
	return strings.Fields(b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "-n", "chatcli-system", "-l", "platform.chatcli.io/correlation-id="+incident,
		"-o", `jsonpath={.items[*].metadata.name}`))
}

// details returns the details of an incident's mirrors.
func (b *bed) details(incident string) string {
	b.t.Helper()
	return b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "-n", "chatcli-system", "-l", "platform.chatcli.io/correlation-id="+incident, "-o", "jsonpath={.items[*].spec.details}")
}

// erase erases the content of an incident from the ledger.
func (b *bed) erase(incident string) {
	b.t.Helper()
	resp, err := b.server.admin.Do(b.t.Context(), http.MethodPost, "/api/v1/erasures", nil, "application/json",
		strings.NewReader(fmt.Sprintf(`{"correlation_id":%q,"reason":"somebody asked for it"}`, incident)))
	if err != nil {
		b.t.Fatal(err)
	}
	resp.Body.Close()
}

func TestTheMirrorIsAWindowOfWholeIncidents(t *testing.T) {
	t.Parallel()
	b := newBed(t, false)
	now := time.Now().UTC()
	for i := range 30 { // before there is a mirror
		b.record(fmt.Sprint("inc-", i/3), now.Add(time.Duration(i-100)*time.Second))
	}
	flags := []string{"--mirror-newest", "10", "--mirror-types", "RemediationExecuted"}
	b.run(flags...)
	testenv.Eventually(t, "the newest incidents are there, and no part of another", func() bool {
		for i := range 10 {
			want := 0
			if i >= 7 {
				want = 3
			}
			if len(b.mirrored(fmt.Sprint("inc-", i))) != want {
				return false
			}
		}
		return true
	})
	b.sub("an incident that goes on comes back whole", func(t *testing.T) {
		b.record("inc-2", now)
		testenv.Eventually(t, "all four are there", func() bool { return len(b.mirrored("inc-2")) == 4 })
		testenv.Eventually(t, "another made room", func() bool {
			all, _ := b.sealed()
			return all <= 10 && len(b.mirrored("inc-7")) == 0 && len(b.mirrored("inc-2")) == 4
		})
	})
	b.sub("it goes on where it was when it was killed", func(t *testing.T) {
		b.kill()
		b.record("inc-11", now)
		b.run(flags...)
		testenv.Eventually(t, "what happened meanwhile is there", func() bool { return len(b.mirrored("inc-11")) == 1 })
	})
	b.sub("an incident of which a part was brought back when it was killed is made whole", func(t *testing.T) {
		if len(b.mirrored("inc-0")) != 0 {
			t.Fatal("it is there already")
		}
		b.kill()
		b.record("inc-0", now)
		b.run(append(flags, "--mirror-rate", "1")...)
		testenv.Eventually(t, "a part of it is there", func() bool { return len(b.mirrored("inc-0")) > 0 })
		b.kill()
		if n := len(b.mirrored("inc-0")); n == 4 {
			t.Log("it was too fast to be caught in the middle")
		}
		b.run(flags...)
		testenv.Eventually(t, "all four are there", func() bool { return len(b.mirrored("inc-0")) == 4 })
	})
	b.sub("what is erased from the ledger goes from the cluster", func(t *testing.T) {
		if !strings.Contains(b.details("inc-11"), "of inc-11") {
			t.Fatal(b.details("inc-11"))
		}
		b.erase("inc-11")
		testenv.Eventually(t, "its details are gone, and it is there", func() bool {
			return len(b.mirrored("inc-11")) == 1 && !strings.Contains(b.details("inc-11"), "of inc-11")
		})
	})
	b.sub("what is erased while no operator runs goes when there is one", func(t *testing.T) {
		b.record("inc-13", now)
		testenv.Eventually(t, "it is there", func() bool { return strings.Contains(b.details("inc-13"), "of inc-13") })
		b.kill()
		b.erase("inc-13")
		b.run(flags...)
		testenv.Eventually(t, "its details are gone, and it is there", func() bool {
			return len(b.mirrored("inc-13")) == 1 && !strings.Contains(b.details("inc-13"), "of inc-13")
		})
	})
	b.sub("it waits while a policy refuses", func(t *testing.T) {
		b.k.Apply(testenv.KubeAdmin, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: none}
spec:
  matchConstraints: {resourceRules: [{apiGroups: [platform.chatcli.io], apiVersions: ["*"], operations: [CREATE], resources: [auditevents]}]}
  validations: [{expression: "false", message: "there are none today"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: none}
spec: {policyName: none, validationActions: [Deny]}
`)
		testenv.Eventually(t, "the policy counts", func() bool {
			out, err := b.k.TryKubectl("jane", []byte(auditEvent("production", "probe", "x")), "create", "--dry-run=server", "-f", "-")
			return err != nil && strings.Contains(out, "none today")
		})
		b.record("inc-14", now)
		time.Sleep(2 * time.Second) // it has tried
		b.k.Kubectl(testenv.KubeAdmin, "delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", "none")
		testenv.Eventually(t, "what happened meanwhile is there, whole", func() bool { return strings.Contains(b.details("inc-14"), "of inc-14") })
	})
	b.sub("it waits for its namespace", func(t *testing.T) {
		b.k.Kubectl(testenv.KubeAdmin, "delete", "namespace", "chatcli-system", "--timeout=60s")
		b.record("inc-12", now)
		b.k.Kubectl(testenv.KubeAdmin, "create", "namespace", "chatcli-system")
		testenv.Eventually(t, "what happened meanwhile is there", func() bool { return len(b.mirrored("inc-12")) == 1 })
	})
	b.stop()
}

// TestADefinitionOfChatCLIsOwnIsUsedAsItIs has AuditEvents defined as ChatCLI's code
// does: without a rule, and without some fields.
func TestADefinitionOfChatCLIsOwnIsUsedAsItIs(t *testing.T) {
	t.Parallel()
	b := newBed(t, false)
	text, err := fs.ReadFile(config.CRDs, "crd/platform.chatcli.io_auditevents.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var crd map[string]any
	if err := yaml.Unmarshal(text, &crd); err != nil {
		t.Fatal(err)
	}
	version := crd["spec"].(map[string]any)["versions"].([]any)[0].(map[string]any)
	delete(version, "selectableFields")
	spec := version["schema"].(map[string]any)["openAPIV3Schema"].(map[string]any)["properties"].(map[string]any)["spec"].(map[string]any)
	delete(spec, "x-kubernetes-validations")
	properties := spec["properties"].(map[string]any)
	for name := range properties {
		switch name {
		case "eventType", "timestamp", "actor", "resource", "details", "correlationId", "severity":
		default:
			delete(properties, name)
		}
	}
	for name, field := range map[string]string{"actor": "serviceAccount", "resource": "apiVersion"} {
		delete(properties[name].(map[string]any)["properties"].(map[string]any), field)
	}
	theirs, err := json.Marshal(crd)
	if err != nil {
		t.Fatal(err)
	}
	b.k.Kubectl(testenv.KubeAdmin, "delete", "crd", "auditevents.platform.chatcli.io")
	b.k.Apply(testenv.KubeAdmin, string(theirs))
	b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
	b.run()

	d := details(t, b.one(url.Values{"type": {"AuditEventProtectionChanged"}}))
	for _, field := range []string{"spec.actor.serviceAccount", "spec.resource.apiVersion", "spec.correlationID", "spec.fact"} {
		if !strings.Contains(d["lacks"]+",", field+",") {
			t.Errorf("%s is lacking and is not told: %s", field, d["lacks"])
		}
	}
	if d["rung"] != "none" {
		t.Errorf("rung %s", d["rung"])
	}
	b.create("jane", auditEvent("production", "audit-1795279749741975573-sns3h5", "inc-1"))
	b.waitSealed("production", "audit-1795279749741975573-sns3h5")
	b.one(url.Values{"correlation_id": {"inc-1"}})
	name := b.record("inc-2", time.Now())
	b.waitSealed("chatcli-system", name)
	if out := b.k.Kubectl(testenv.KubeAdmin, "get", "ae", name, "-n", "chatcli-system", "-o", "jsonpath={.spec.correlationId}"); out != "inc-2" {
		t.Errorf("incident %q", out)
	}
	b.stop()
	b.run() // and what it made is its own when it comes back
	b.waitSealed("chatcli-system", b.record("inc-3", time.Now()))
	if copies := b.server.events(url.Values{"type": {"AuditEventCopied"}}); len(copies) != 0 {
		t.Errorf("a mirror is taken for a copy: %s", copies[0].Details)
	}
	if n := len(b.server.events(url.Values{"correlation_id": {"inc-2"}})); n != 1 {
		t.Errorf("%d events", n)
	}
}
