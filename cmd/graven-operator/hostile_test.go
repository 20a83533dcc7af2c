package main

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/testenv"
)

// eventOf returns the event that an AuditEvent is.
func (b *bed) eventOf(manifest string) *event.Event {
	b.t.Helper()
	object, err := yaml.YAMLToJSON([]byte(strings.TrimPrefix(manifest, "---\n")))
	if err != nil {
		b.t.Fatal(err)
	}
	events, err := intake.AuditEvent(object)
	if err != nil {
		b.t.Fatal(err)
	}
	return events[0]
}

// protection waits until the ledger's newest word of how AuditEvents are kept is a
// rung.
func (b *bed) protection(rung string) {
	b.t.Helper()
	testenv.Eventually(b.t, "the rung is "+rung, func() bool {
		told := b.server.events(url.Values{"type": {"AuditEventProtectionChanged"}})
		return len(told) > 0 && details(b.t, told[0])["rung"] == rung
	})
}

// copies returns how many AuditEvents were recorded as copies.
func (b *bed) copies() int {
	return len(b.server.events(url.Values{"type": {"AuditEventCopied"}}))
}

func TestNobodyKeepsAnAuditEventFromTheLedger(t *testing.T) {
	t.Parallel()
	b := newBed(t, true)
	b.run()
	b.protection("stamped")
	b.create("jane", strings.Replace(auditEvent("dev", "audit-1", "inc-0"), "annotations: {", "labels: {graven.dev/probe: \"true\"}, annotations: {", 1))
	b.sub("who has recorded something else under its id", func(t *testing.T) {
		text := auditEvent("production", "audit-1710856200-aaaaaa", "inc-1")
		e := b.eventOf(text)
		own := e.ID
		e.Severity, e.CorrelationID = "low", "inc-taken"
		if _, err := b.server.admin.RecordSync(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		b.create("jane", text)
		b.waitSealed("production", "audit-1710856200-aaaaaa")
		got := b.one(url.Values{"correlation_id": {"inc-1"}})
		if got.Recorded.Principal != "jane" || !got.ID.Reserved() || got.Original["id"] != own.String() {
			t.Errorf("%s by %s, %v", got.ID, got.Recorded.Principal, got.Original)
		}
		if told := b.one(url.Values{"type": {"IdempotencyConflict"}}); !strings.Contains(string(told.Details), got.ID.String()) {
			t.Errorf("%s", told.Details)
		}
	})
	b.sub("who has had an AuditEvent sealed under its id", func(t *testing.T) {
		text := auditEvent("production", "audit-1710856200-bbbbbb", "inc-2")
		id := b.eventOf(text).ID.String()
		b.create("velero", strings.Replace(auditEvent("dev", "audit-1710856200-cccccc", "inc-other"), "spec:", "spec:\n  id: "+id, 1))
		b.waitSealed("dev", "audit-1710856200-cccccc")
		b.create("jane", text)
		b.waitSealed("production", "audit-1710856200-bbbbbb")
		if got := b.one(url.Values{"correlation_id": {"inc-2"}}); got.Recorded.Principal != "jane" || got.Original["id"] != id {
			t.Errorf("%s by %s, %v", got.ID, got.Recorded.Principal, got.Original)
		}
	})
	b.sub("an AuditEvent with an id that is the operator's to give gets one", func(t *testing.T) {
		id := event.DeriveID("AuditEventCopied", "a uid").Reserve().String()
		b.create("jane", strings.Replace(auditEvent("production", "audit-1710856200-dddddd", "inc-3"), "spec:", "spec:\n  id: "+id, 1))
		b.waitSealed("production", "audit-1710856200-dddddd")
		if got := b.one(url.Values{"correlation_id": {"inc-3"}}); got.ID.String() == id || got.Original["id"] != id {
			t.Errorf("%s, %v", got.ID, got.Original)
		}
	})
	b.sub("a policy that is made anew, and a cluster that has a name now, make no copies of what is sealed", func(t *testing.T) {
		before := len(b.server.events(url.Values{"type": {"IssueCreated"}}))
		b.kill()
		for _, name := range []string{"auditevents.yaml", "stamp/stamp.yaml"} {
			b.k.Kubectl(testenv.KubeAdmin, "delete", "-f", "../../config/policies/"+name)
		}
		b.protect()
		b.run("--cluster", "west")
		b.create("jane", auditEvent("production", "audit-1710856200-eeeeee", "inc-4"))
		b.waitSealed("production", "audit-1710856200-eeeeee")
		if e := b.one(url.Values{"correlation_id": {"inc-4"}}); e.Cluster != "west" {
			t.Errorf("cluster %q", e.Cluster)
		}
		b.waitSealed("chatcli-system", "audit-1710856200-eeeeee") // after all that was there was looked at
		if after := len(b.server.events(url.Values{"type": {"IssueCreated"}})); after != before+1 || b.copies() != 0 {
			t.Errorf("%d events, then %d; %d copies", before, after, b.copies())
		}
	})
	b.sub("an object that would have no room for its receipt is not taken", func(t *testing.T) {
		big := strings.Replace(auditEvent("production", "audit-big", "inc-6"), "annotations: {", "annotations: {big: "+strings.Repeat("a", 40_000)+", ", 1)
		if out, err := b.k.TryKubectl("jane", []byte(big), "create", "-f", "-"); err == nil || !strings.Contains(out, "its receipt has room") {
			t.Errorf("%s, %v", out, err)
		}
	})
	b.sub("who creates again what was erased does not bring it back", func(t *testing.T) {
		text := auditEvent("production", "audit-1710856200-abcdef", "inc-7")
		b.create("jane", text)
		b.waitSealed("production", "audit-1710856200-abcdef")
		show := func() string {
			return b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "-A", "--field-selector", "spec.correlationID=inc-7", "-o", "jsonpath={.items[*].spec.details}") +
				b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "-A", "--field-selector", "metadata.name=audit-1710856200-abcdef", "-o", "jsonpath={.items[*].spec.details}")
		}
		b.erase("inc-7")
		testenv.Eventually(t, "its details are gone", func() bool { return !strings.Contains(show(), "the heap is full") })
		b.create("jane", text)
		testenv.Eventually(t, "and are again", func() bool { return !strings.Contains(show(), "the heap is full") })
	})
	b.sub("another's definition makes no copies of mirrors", func(t *testing.T) {
		b.k.Kubectl(testenv.KubeAdmin, "patch", "crd", "auditevents.platform.chatcli.io", "--type=json",
			"-p", `[{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/category"},{"op":"remove","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/retentionDays"}]`)
		before := b.copies()
		for i := range 5 {
			b.waitSealed("chatcli-system", b.record(fmt.Sprint("inc-8", i), time.Now().UTC()))
		}
		b.kill()
		b.k.Kubectl(testenv.KubeAdmin, "replace", "-f", "../../config/crd/platform.chatcli.io_auditevents.yaml")
		b.run("--cluster", "west")
		b.waitSealed("chatcli-system", b.record("inc-89", time.Now().UTC()))
		if after := b.copies(); after != before {
			t.Errorf("%d copies, then %d", before, after)
		}
	})
	b.sub("a quota that keeps the protection from being tried", func(t *testing.T) {
		b.kill()
		b.k.Apply(testenv.KubeAdmin, `{apiVersion: v1, kind: ResourceQuota, metadata: {name: none, namespace: default}, spec: {hard: {count/auditevents.platform.chatcli.io: "0"}}}`)
		b.k.Kubectl(testenv.KubeAdmin, "patch", "resourcequota", "none", "-n", "default", "--subresource=status", "--type=merge",
			"-p", `{"status":{"hard":{"count/auditevents.platform.chatcli.io":"0"},"used":{"count/auditevents.platform.chatcli.io":"0"}}}`)
		testenv.Eventually(t, "the quota counts", func() bool {
			out, err := b.k.TryKubectl("jane", []byte(auditEvent("default", "probe", "x")), "create", "--dry-run=server", "-f", "-")
			return err != nil && strings.Contains(out, "quota")
		})
		b.run("--cluster", "west")
		b.create("jane", auditEvent("production", "audit-1710856200-ffffff", "inc-5"))
		b.waitSealed("production", "audit-1710856200-ffffff")
		if e := b.one(url.Values{"correlation_id": {"inc-5"}}); e.Recorded.Principal != "operator" || e.Original["graven.dev/created-by"] != "jane" {
			t.Errorf("%+v, %v", e.Recorded, e.Original)
		}
		b.k.Kubectl(testenv.KubeAdmin, "delete", "resourcequota", "none", "-n", "default")
	})
	b.sub("a policy that lets things be changed is none", func(t *testing.T) {
		b.kill()
		of := func(operations string) {
			b.k.Kubectl(testenv.KubeAdmin, "patch", "validatingadmissionpolicy", "graven-auditevents", "--type=json",
				"-p", `[{"op":"replace","path":"/spec/matchConstraints/resourceRules/0/operations","value":[`+operations+`]}]`)
		}
		of(`"CREATE"`)
		changes := func() bool {
			_, err := b.k.TryKubectl("jane", nil, "label", "ae", "audit-1710856200-ffffff", "-n", "production", "a=b", "--dry-run=server")
			return err == nil
		}
		testenv.Eventually(t, "it can be changed", changes)
		b.run("--cluster", "west")
		b.protection("rule")
		b.kill()
		of(`"CREATE","UPDATE","DELETE"`)
		testenv.Eventually(t, "it cannot be changed", func() bool { return !changes() })
		b.run("--cluster", "west")
		b.protection("stamped")
	})
	b.stop()
}
