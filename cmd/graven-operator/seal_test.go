package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/testenv"
)

// sub runs a part of a test on the same bed.
func (b *bed) sub(name string, run func(t *testing.T)) {
	whole := b.t
	whole.Run(name, func(t *testing.T) {
		b.t, b.server.t = t, t
		defer func() { b.t, b.server.t = whole, whole }()
		run(t)
	})
}

// create has a user create objects.
func (b *bed) create(user, manifests string) {
	b.t.Helper()
	if out, err := b.k.TryKubectl(user, []byte(manifests), "create", "-f", "-"); err != nil {
		b.t.Fatalf("create: %s", out)
	}
}

// one waits until the ledger has one event that a query asks for, and returns it.
func (b *bed) one(query url.Values) *event.Event {
	b.t.Helper()
	var found []*event.Event
	testenv.Eventually(b.t, fmt.Sprint("one event ", query), func() bool {
		found = b.server.events(query)
		return len(found) > 0
	})
	if len(found) != 1 {
		b.t.Fatalf("%v: %d events", query, len(found))
	}
	return found[0]
}

// freeAddress returns an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(text)
}

// job runs the command of a CronJob as a user, and returns what it says.
func (b *bed) job(t *testing.T, file, user string, env ...string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cron batchv1.CronJob
	if err := yaml.Unmarshal(text, &cron); err != nil {
		t.Fatal(err)
	}
	command := cron.Spec.JobTemplate.Spec.Template.Spec.Containers[0].Command
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Env = append(append(os.Environ(), "KUBECONFIG="+b.k.Kubeconfig(user), "PATH="+filepath.Dir(b.k.KubectlPath())+":"+os.Getenv("PATH")), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", file, err, out)
	}
	return string(out)
}

// details returns an event's details.
func details(t *testing.T, e *event.Event) map[string]string {
	t.Helper()
	var d map[string]string
	if err := json.Unmarshal(e.Details, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// decode reads an event's details.
func decode(e *event.Event, v any) error { return json.Unmarshal(e.Details, v) }

// annotation returns an annotation of an AuditEvent.
func (b *bed) annotation(namespace, name, annotation string) string {
	b.t.Helper()
	out, err := b.k.TryKubectl(testenv.KubeAdmin, nil, "get", "ae", name, "-n", namespace, "-o", "jsonpath={.metadata.annotations."+strings.ReplaceAll(annotation, ".", `\.`)+"}")
	if err != nil {
		return ""
	}
	return out
}

// waitSealed waits until an AuditEvent bears a receipt, and returns its index.
func (b *bed) waitSealed(namespace, name string) (index string) {
	b.t.Helper()
	testenv.Eventually(b.t, name+" is sealed", func() bool {
		index = b.annotation(namespace, name, "graven.dev/index")
		return index != ""
	})
	return index
}

func TestWhatIsCreatedIsSealedAsWhatItIs(t *testing.T) {
	t.Parallel()
	b := newBed(t, true)
	metrics := freeAddress(t)
	b.run("--metrics-address", metrics)
	b.create("jane", auditEvent("production", "audit-1710856200-aaaaaa", "inc-1"))
	index := b.waitSealed("production", "audit-1710856200-aaaaaa")

	b.sub("its creator is the principal, and who vouches is kept", func(t *testing.T) {
		e := b.one(url.Values{"correlation_id": {"inc-1"}})
		if e.Recorded.Principal != "jane" || e.Recorded.Via != "admission/operator" || e.Recorded.Attribution != event.AttributionAsserted {
			t.Errorf("%+v", e.Recorded)
		}
		if details(t, e)["riskScore"] != "7" || e.EventType != "IssueCreated" || e.Severity != event.SeverityMedium {
			t.Errorf("%+v", e)
		}
	})
	b.sub("an actor who is the creator is known by admission", func(t *testing.T) {
		b.create("jane", strings.Replace(auditEvent("production", "audit-1710856200-bbbbbb", "inc-2"), "name: IssueReconciler", "name: jane", 1))
		if e := b.one(url.Values{"correlation_id": {"inc-2"}}); e.Recorded.Attribution != event.AttributionAdmission {
			t.Errorf("%+v", e.Recorded)
		}
	})
	b.sub("what is no event gets the receipt of one that says so", func(t *testing.T) {
		for name, text := range map[string]string{
			"too-long":  strings.Replace(auditEvent("production", "too-long", "inc-3"), "name: IssueReconciler", "name: "+strings.Repeat("ü", 400), 1),
			"own-type":  strings.Replace(auditEvent("production", "own-type", "inc-3"), "issue_created", "AuditEventProtectionChanged", 1),
			"reserved":  strings.Replace(auditEvent("production", "reserved", "inc-3"), "issue_created", "LedgerCreated", 1),
			"in-future": strings.Replace(auditEvent("production", "in-future", "inc-3"), "2026-03-19", "2126-03-19", 1),
		} {
			b.create("jane", text)
			refused := b.waitSealed("production", name)
			e := b.one(url.Values{"type": {"AuditEventRefused"}, "resource": {name}})
			d := details(t, e)
			if d["reason"] == "" || d["creator"] != "jane" || !strings.Contains(d["spec"], "the heap is full") {
				t.Errorf("%s: %v", name, d)
			}
			if got := b.annotation("production", name, "graven.dev/index"); got != refused || got == index {
				t.Errorf("%s: index %s", name, got)
			}
		}
		for _, e := range b.server.events(url.Values{"correlation_id": {"inc-3"}}) {
			if e.EventType != "AuditEventRefused" {
				t.Errorf("a %s was recorded", e.EventType)
			}
		}
	})
	b.sub("what happens in the ledger is mirrored", func(t *testing.T) {
		e := &event.Event{EventType: "RemediationExecuted", Timestamp: event.Event{}.Timestamp, Actor: event.Actor{Type: "controller", Name: "x"},
			Resource: event.Resource{Kind: "RemediationPlan", Name: "plan", Namespace: "production"}, CorrelationID: "inc-4"}
		e.Timestamp = b.one(url.Values{"correlation_id": {"inc-1"}}).Timestamp
		if err := e.SetDetails(map[string]any{"confidence": 0.92, "steps": []string{"a", "b"}, "result": "ok"}); err != nil {
			t.Fatal(err)
		}
		r, err := b.server.admin.RecordSync(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		if got := b.waitSealed("chatcli-system", r.Name); got != fmt.Sprint(r.Index) {
			t.Errorf("index %s, recorded as %d", got, r.Index)
		}
		if leaf := b.annotation("chatcli-system", r.Name, "graven.dev/leaf-hash"); leaf != r.LeafHash {
			t.Errorf("leaf hash %s, recorded as %s", leaf, r.LeafHash)
		}
		out := b.k.Kubectl(testenv.KubeAdmin, "get", "ae", r.Name, "-n", "chatcli-system", "-o", "jsonpath={.spec.details}")
		if out != `{"confidence":"0.92","result":"ok","steps":"[\"a\",\"b\"]"}` {
			t.Errorf("details %s", out)
		}
		for _, args := range []string{"-l platform.chatcli.io/event-type=RemediationExecuted", "-l platform.chatcli.io/correlation-id=inc-4",
			"--field-selector spec.correlationID=inc-4"} {
			if out := b.k.Kubectl(testenv.KubeAdmin, append([]string{"get", "ae", "-n", "chatcli-system", "-o", "name"}, strings.Fields(args)...)...); !strings.Contains(out, r.Name) {
				t.Errorf("%s: %s", args, out)
			}
		}
		if n := len(b.server.events(url.Values{"correlation_id": {"inc-4"}})); n != 1 {
			t.Errorf("its mirror was recorded too: %d events", n)
		}
	})
	b.sub("what was sealed elsewhere is mirrored into the namespace of mirrors", func(t *testing.T) {
		if got := b.waitSealed("chatcli-system", "audit-1710856200-aaaaaa"); got != index {
			t.Errorf("index %s, sealed as %s", got, index)
		}
	})
	b.sub("what was created where the mirrors are is there once", func(t *testing.T) {
		b.create("jane", auditEvent("chatcli-system", "audit-1710856200-cccccc", "inc-5"))
		b.waitSealed("chatcli-system", "audit-1710856200-cccccc")
		b.create("jane", auditEvent("production", "audit-1710856200-dddddd", "inc-5"))
		b.waitSealed("chatcli-system", "audit-1710856200-dddddd") // which comes after it
		out := b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "-n", "chatcli-system", "--field-selector", "spec.resource.name=inc-5", "-o", "name")
		if strings.Count(out, "\n") != 1 {
			t.Errorf("%s", out)
		}
	})
	b.sub("another event of the same name has a name of its own", func(t *testing.T) {
		b.create("jane", strings.Replace(auditEvent("production", "audit-1710856200-cccccc", "inc-6"), "14:30:00Z", "15:30:00Z", 1))
		e := b.one(url.Values{"correlation_id": {"inc-6"}})
		b.waitSealed("chatcli-system", "audit-1710856200-cccccc-"+e.ID.String())
	})
	b.sub("who says the same before does not take the creator's place", func(t *testing.T) {
		text := auditEvent("production", "audit-1710856200-ffffff", "inc-8")
		e := b.eventOf(text)
		own := e.ID
		if _, err := b.server.admin.RecordSync(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		b.create("jane", text)
		b.waitSealed("production", "audit-1710856200-ffffff")
		by := map[string]*event.Event{}
		for _, e := range b.server.events(url.Values{"correlation_id": {"inc-8"}}) {
			by[e.Recorded.Principal] = e
		}
		if len(by) != 2 || by["admin"] == nil || by["jane"] == nil || by["jane"].Original["id"] != own.String() {
			t.Errorf("%+v", by)
		}
		if told := b.server.events(url.Values{"type": {"AuditEventCopied"}, "resource": {"audit-1710856200-ffffff"}}); len(told) > 0 {
			t.Errorf("%s", told[0].Details)
		}
	})
	b.sub("a namespace that ends takes along what the ledger has", func(t *testing.T) {
		b.k.Kubectl(testenv.KubeAdmin, "create", "namespace", "ends")
		b.server.stop() // so that it cannot be sealed
		b.create("jane", auditEvent("ends", "audit-1710856200-eeeeee", "inc-7"))
		b.k.Kubectl(testenv.KubeAdmin, "delete", "namespace", "ends", "--timeout=60s")
		testenv.Eventually(t, "what went is on disk", func() bool {
			names, err := filepath.Glob(filepath.Join(b.dir, "unsealed", "*.json"))
			return err == nil && len(names) == 1
		})
		b.kill()
		b.server.start()
		b.run("--metrics-address", metrics)
		e := b.one(url.Values{"correlation_id": {"inc-7"}, "type": {"AuditEventDeletedUnsealed"}})
		if details(t, e)["creator"] != "jane" {
			t.Errorf("%v", details(t, e))
		}
		if e := b.one(url.Values{"correlation_id": {"inc-7"}, "type": {"IssueCreated"}}); e.Recorded.Principal != "jane" {
			t.Errorf("%+v", e.Recorded)
		}
	})
	b.sub("what is no event is not taken for a copy when the operator starts again", func(t *testing.T) {
		for _, name := range []string{"too-long", "reserved", "own-type", "in-future"} {
			if told := b.server.events(url.Values{"type": {"AuditEventCopied"}, "resource": {name}}); len(told) > 0 {
				t.Errorf("%s: %s", name, told[0].Details)
			}
			b.one(url.Values{"type": {"AuditEventRefused"}, "resource": {name}})
		}
	})
	b.sub("the metrics that alerts and dashboard ask for are there", func(t *testing.T) {
		text := has(t, metrics, `graven_operator_\w+`)
		for _, sample := range []string{"graven_operator_immutability_rung 3", "graven_operator_schema_degraded 0", "graven_operator_lost_unsealed_total 1"} {
			if !strings.Contains(text, sample+"\n") {
				t.Errorf("no %s", sample)
			}
		}
	})
	b.sub("the ledger is whole when ChatCLI's retention job has run", func(t *testing.T) {
		all, sealed := b.sealed()
		if all == 0 || all != sealed {
			t.Fatal(all, sealed)
		}
		out := b.job(t, "../../config/examples/retention.yaml", retentionUser, "DAYS=1")
		testenv.Eventually(t, "the old ones are gone: "+out, func() bool {
			return b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "-n", "production", "-o", "name") == "auditevent.platform.chatcli.io/in-future"
		})
		var report struct {
			Entries  int64             `json:"entries"`
			Findings []json.RawMessage `json:"findings"`
		}
		if err := b.server.admin.Get(t.Context(), "/api/v1/audit/verify", nil, &report); err != nil || len(report.Findings) > 0 || report.Entries == 0 {
			t.Errorf("%+v, %v", report, err)
		}
		b.one(url.Values{"correlation_id": {"inc-1"}})
	})
	b.sub("the protection stands in the ledger", func(t *testing.T) {
		if e := b.one(url.Values{"type": {"AuditEventProtectionChanged"}}); details(t, e)["rung"] != "stamped" {
			t.Errorf("%v", details(t, e))
		}
	})
}

func TestNothingThatAnObjectSaysOfItselfIsBelieved(t *testing.T) {
	t.Parallel()
	b := newBed(t, false)
	b.run()
	b.create("jane", auditEvent("production", "audit-1710856200-aaaaaa", "inc-1"))
	b.waitSealed("production", "audit-1710856200-aaaaaa")
	b.waitSealed("chatcli-system", "audit-1710856200-aaaaaa")
	read := func(namespace, name string) map[string]any {
		var o map[string]any
		if err := json.Unmarshal([]byte(b.k.Kubectl(testenv.KubeAdmin, "get", "ae", name, "-n", namespace, "-o", "json")), &o); err != nil {
			t.Fatal(err)
		}
		meta := o["metadata"].(map[string]any)
		for _, name := range []string{"uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"} {
			delete(meta, name)
		}
		return o
	}
	text := func(o map[string]any) string {
		out, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	copied := func(name string) map[string]string {
		return details(t, b.one(url.Values{"type": {"AuditEventCopied"}, "resource": {name}}))
	}
	b.sub("a creator that anybody may have written is not the principal", func(t *testing.T) {
		b.create("jane", strings.Replace(auditEvent("production", "claims-john", "inc-2"), "annotations: {", "annotations: {graven.dev/created-by: john, ", 1))
		e := b.one(url.Values{"correlation_id": {"inc-2"}})
		if e.Recorded.Principal != "operator" || e.Original["graven.dev/created-by"] != "john" {
			t.Errorf("%+v, %v", e.Recorded, e.Original)
		}
	})
	b.sub("a faithful copy of a mirror is recorded as a copy, and not as an event", func(t *testing.T) {
		o := read("chatcli-system", "audit-1710856200-aaaaaa")
		o["metadata"].(map[string]any)["name"] = "copy"
		delete(o["metadata"].(map[string]any)["annotations"].(map[string]any), "graven.dev/created-by")
		b.create("jane", text(o))
		if d := copied("copy"); d["faithful"] != "true" {
			t.Errorf("%v", d)
		}
		if n := len(b.server.events(url.Values{"type": {"IssueCreated"}, "correlation_id": {"inc-1"}})); n != 1 {
			t.Errorf("%d events", n)
		}
	})
	b.sub("a faithful copy is one, though it says that the operator made it", func(t *testing.T) {
		testenv.Eventually(t, "seconds have gone since the operator began", func() bool {
			out := b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "copy", "-n", "chatcli-system", "-o", "jsonpath={.metadata.creationTimestamp}")
			at, err := time.Parse(time.RFC3339, out)
			return err == nil && time.Since(at) > 2*time.Second
		})
		o := read("chatcli-system", "audit-1710856200-aaaaaa")
		o["metadata"].(map[string]any)["name"] = "claims-operator"
		if got := o["metadata"].(map[string]any)["annotations"].(map[string]any)["graven.dev/created-by"]; got != operatorUser {
			t.Fatal(got)
		}
		b.create("jane", text(o))
		if d := copied("claims-operator"); d["faithful"] != "true" || d["creator"] != operatorUser {
			t.Errorf("%v", d)
		}
		if told := b.server.events(url.Values{"type": {"AuditEventCopied"}, "resource": {"audit-1710856200-aaaaaa"}}); len(told) > 0 {
			t.Errorf("the operator's own: %s", told[0].Details)
		}
	})
	b.sub("an object that has a mirror's name and id does not take its place", func(t *testing.T) {
		e := &event.Event{ID: event.NewID(time.Now()), EventType: "RemediationExecuted", Timestamp: time.Now().UTC(), Actor: event.Actor{Type: "controller", Name: "x"},
			Resource: event.Resource{Kind: "RemediationPlan", Name: "plan", Namespace: "production"}, Name: "audit-1710856200-taken", CorrelationID: "inc-9"}
		b.server.stop() // so that the event of that id is not the object's
		b.create("jane", strings.Replace(auditEvent("chatcli-system", e.Name, "inc-other"), "spec:", "spec:\n  id: "+e.ID.String(), 1))
		b.kill()
		b.server.start()
		if _, err := b.server.admin.RecordSync(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		b.run()
		b.waitSealed("chatcli-system", e.Name+"-"+e.ID.String())
		b.waitSealed("chatcli-system", e.Name)
		if other := b.one(url.Values{"correlation_id": {"inc-other"}}); !other.ID.Reserved() || other.Original["id"] != e.ID.String() {
			t.Errorf("%s, %v", other.ID, other.Original)
		}
	})
	b.sub("a mirror that says something else is an event of its own, and false", func(t *testing.T) {
		o := read("chatcli-system", "audit-1710856200-aaaaaa")
		o["metadata"].(map[string]any)["name"] = "forged"
		o["spec"].(map[string]any)["severity"] = "low"
		b.create("jane", text(o))
		if d := copied("forged"); d["faithful"] != "false" {
			t.Errorf("%v", d)
		}
		testenv.Eventually(t, "it is recorded as what it is", func() bool {
			return len(b.server.events(url.Values{"type": {"IssueCreated"}, "correlation_id": {"inc-1"}, "severity": {"low"}})) == 1
		})
	})
	b.sub("a receipt that is made up is false, and the object is sealed", func(t *testing.T) {
		b.create("jane", strings.Replace(auditEvent("production", "made-up", "inc-3"), "annotations: {",
			`annotations: {graven.dev/index: "0", graven.dev/leaf-hash: abc, graven.dev/origin: graven, `, 1))
		if d := copied("made-up"); d["faithful"] != "false" || d["claimedLeafHash"] != "abc" {
			t.Errorf("%v", d)
		}
		b.one(url.Values{"correlation_id": {"inc-3"}, "type": {"IssueCreated"}})
		testenv.Eventually(t, "its receipt is true now", func() bool { return b.annotation("production", "made-up", "graven.dev/leaf-hash") != "abc" })
	})
	b.sub("what a backup tool restores is recognised", func(t *testing.T) {
		o := read("production", "audit-1710856200-aaaaaa")
		b.k.Kubectl(testenv.KubeAdmin, "delete", "ae", "audit-1710856200-aaaaaa", "-n", "production")
		b.create("velero", text(o))
		if d := copied("audit-1710856200-aaaaaa"); d["faithful"] != "restored" {
			t.Errorf("%v", d)
		}
		if n := len(b.server.events(url.Values{"type": {"IssueCreated"}, "correlation_id": {"inc-1"}, "severity": {"medium"}})); n != 1 {
			t.Errorf("%d events", n)
		}
	})
	b.sub("where it is in the ledger is not what an object says", func(t *testing.T) {
		b.create("jane", auditEvent("production", "altered", "inc-10"))
		index := b.waitSealed("production", "altered")
		b.k.Kubectl("jane", "annotate", "--overwrite", "ae", "altered", "-n", "production", "graven.dev/index=0")
		if d := copied("altered"); d["faithful"] != "false" || d["claimedIndex"] != "0" {
			t.Errorf("%v", d)
		}
		testenv.Eventually(t, "its receipt is true again", func() bool { return b.annotation("production", "altered", "graven.dev/index") == index })
		b.erase("inc-10")
		testenv.Eventually(t, "what was erased is gone", func() bool {
			out := b.k.Kubectl(testenv.KubeAdmin, "get", "ae", "-A", "--field-selector", "spec.resource.name=inc-10", "-o", "jsonpath={.items[*].spec.details}")
			return !strings.Contains(out, "the heap is full")
		})
	})
	b.sub("the protection is told as it grows", func(t *testing.T) {
		if e := b.one(url.Values{"type": {"AuditEventProtectionChanged"}}); details(t, e)["rung"] != "rule" {
			t.Errorf("%v", details(t, e))
		}
		b.kill()
		b.apply(config.Policies, "policies/auditevents.yaml", "policies/stamp/stamp.yaml")
		testenv.Eventually(t, "the policies count", func() bool {
			out, err := b.k.TryKubectl("jane", []byte(strings.Replace(auditEvent("production", "probe", "x"), "annotations: {", `annotations: {graven.dev/index: "0", `, 1)),
				"create", "--dry-run=server", "-f", "-")
			if err == nil || !strings.Contains(out, "only the operator gives") {
				return false
			}
			out, err = b.k.TryKubectl("jane", []byte(auditEvent("production", "probe", "x")), "create", "--dry-run=server", "-o", "json", "-f", "-")
			return err == nil && strings.Contains(out, `"graven.dev/created-by": "jane"`)
		})
		b.run()
		testenv.Eventually(t, "the ledger is told", func() bool {
			for _, e := range b.server.events(url.Values{"type": {"AuditEventProtectionChanged"}}) {
				if d := details(t, e); d["rung"] == "stamped" && d["was"] == "rule" {
					return true
				}
			}
			return false
		})
	})
}

// has holds the metrics of a pattern that alerts and dashboard ask for against those that
// are served, and returns these.
func has(t *testing.T, address, pattern string) string {
	t.Helper()
	text := get(t, "http://"+address+"/metrics")
	for _, file := range []string{"alerts.yaml", "dashboard.json"} {
		asking, err := os.ReadFile(filepath.Join("../../charts/graven/files", file))
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(pattern).FindAllString(string(asking), -1)
		if len(names) == 0 {
			t.Error("none is asked for in", file)
		}
		for _, name := range names {
			if !regexp.MustCompile(`(?m)^` + name + `[{ ]`).MatchString(text) {
				t.Errorf("%s asks for %s", file, name)
			}
		}
	}
	return text
}
