package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/testenv"
)

// patcher returns a function with which the administrator patches Issues, much faster
// than kubectl does.
func (b *bed) patcher() func(issue, subresource, patch string) {
	b.t.Helper()
	ca, err := os.ReadFile(b.k.CAFile())
	if err != nil {
		b.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 8}, Timeout: time.Minute}
	b.whole.Cleanup(client.CloseIdleConnections)
	return func(issue, subresource, patch string) {
		b.t.Helper()
		req, err := http.NewRequest(http.MethodPatch, b.k.URL()+"/apis/platform.chatcli.io/v1alpha1/namespaces/production/issues/"+issue+subresource, strings.NewReader(patch))
		if err != nil {
			b.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+b.k.Token(testenv.KubeAdmin))
		req.Header.Set("Content-Type", "application/merge-patch+json")
		resp, err := client.Do(req)
		if err != nil {
			b.t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.t.Fatalf("%s: %.300s, %v", resp.Status, text, err)
		}
	}
}

const notesPolicy = `
apiVersion: graven.dev/v1alpha1
kind: CapturePolicy
metadata: {name: notes}
spec:
  at: watch
  match: {resources: [{group: platform.chatcli.io, version: v1alpha1, resource: issues}], operations: [UPDATE]}
  when: object.metadata.name == 'busy'
  record:
  - event: {eventType: "'issue.note'", fact: "object.metadata.uid + '/note/' + object.metadata.resourceVersion", correlationID: object.metadata.name, details: "{'from': oldObject.spec.description, 'to': object.spec.description}"}
`

// TestCaptureEnduresWhatIsHard has policies that fail, objects that are huge, and
// one that changes all the time.
func TestCaptureEnduresWhatIsHard(t *testing.T) {
	t.Parallel()
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured("issues")
	b.k.Apply(testenv.KubeAdmin, issuesPolicy)
	b.run()
	b.ready("issues")
	patch := b.patcher()
	b.sub("a policy that fails on a state", func(t *testing.T) {
		b.k.Apply(testenv.KubeAdmin, `
apiVersion: graven.dev/v1alpha1
kind: CapturePolicy
metadata: {name: fails}
spec:
  at: watch
  match: {resources: [{group: platform.chatcli.io, version: v1alpha1, resource: issues}]}
  record:
  - when: has(object.spec.riskScore)
    event: {eventType: "'issue.share'", fact: "object.metadata.uid + '/share'", details: "{'share': string(100 / (object.spec.riskScore - 7))}"}
`)
		b.ready("fails")
		b.issue("odd")
		patch("odd", "", `{"spec":{"riskScore":7}}`)
		failed := b.told(1, url.Values{"type": {"CaptureFailed"}, "resource": {"odd"}})[0]
		if d := details(t, failed); d["policy"] != "fails" || d["field"] != "record[0].event.details" || !strings.Contains(d["reason"], "division by zero") {
			t.Error(d)
		}
		b.k.Kubectl(testenv.KubeAdmin, "wait", "--for=condition=Evaluated=false", "capturepolicy/fails", "--timeout=60s")
		b.told(1, url.Values{"type": {"issue.created"}, "resource": {"odd"}}) // others go on
		b.k.Kubectl(testenv.KubeAdmin, "delete", "capturepolicy", "fails")
	})
	b.sub("an object of almost a megabyte", func(t *testing.T) {
		b.issue("huge")
		words := strings.Repeat("it is a long story, ", 45_000)
		patch("huge", "", `{"spec":{"description":"`+words+`"}}`)
		patch("huge", "/status", `{"status":{"state":"Resolved"}}`)
		b.told(1, url.Values{"type": {"issue.state"}, "correlation_id": {"huge"}})
		whole := map[string][]string{}
		testenv.Eventually(t, "the parts of its snapshot are there", func() bool {
			clear(whole)
			for _, e := range b.server.events(url.Values{"type": {"ResourceSnapshot"}, "resource": {"huge"}}) {
				var d struct {
					Digest, Object string
					Part, Parts    int
				}
				if err := decode(e, &d); err != nil {
					t.Fatal(err)
				}
				if whole[d.Digest] == nil {
					whole[d.Digest] = make([]string, max(d.Parts, 1))
				}
				whole[d.Digest][max(d.Part, 1)-1] = d.Object
			}
			for _, parts := range whole {
				if text := strings.Join(parts, ""); strings.Contains(text, words) && !slices.Contains(parts, "") {
					return json.Valid([]byte(text))
				}
			}
			return false
		})
	})
	b.sub("one that changes all the time, while the operator is killed again and again", func(t *testing.T) {
		b.k.Apply(testenv.KubeAdmin, notesPolicy)
		b.ready("notes")
		const n = 1000
		b.issue("busy")
		for i := range n {
			patch("busy", "", fmt.Sprintf(`{"spec":{"description":"%d"}}`, i))
			if i%250 == 200 {
				b.kill()
				b.run()
			}
		}
		var events []*event.Event
		testenv.Eventually(t, "the last state is told", func() bool {
			events = b.server.events(url.Values{"type": {"issue.note"}, "correlation_id": {"busy"}})
			return len(events) > 0 && details(t, events[0])["to"] == fmt.Sprint(n-1)
		})
		seen := map[string]int{}
		for _, e := range events {
			seen[details(t, e)["from"]+">"+details(t, e)["to"]]++
		}
		for i := range n {
			from := "d"
			if i > 0 {
				from = fmt.Sprint(i - 1)
			}
			if step := fmt.Sprintf("%s>%d", from, i); seen[step] != 1 {
				t.Errorf("%s: %d times", step, seen[step])
			}
		}
		if len(events) != n {
			t.Errorf("%d events", len(events))
		}
	})
}

// TestWhatAnAPIServerHasForgottenIsDerived from the states before and after, and where
// that is, is a gap.
func TestWhatAnAPIServerHasForgottenIsDerived(t *testing.T) {
	t.Parallel()
	masters := []string{"system:masters"}
	b := newKubeBeside(t, newServer(t), testenv.KubeOptions{Users: map[string][]string{operatorUser: masters}, Flags: []string{"--etcd-compaction-interval=1s"}})
	b.server.start()
	t.Cleanup(b.kill)
	b.captured("issues")
	b.k.Apply(testenv.KubeAdmin, notesPolicy)
	b.run()
	b.ready("notes")
	patch := b.patcher()
	b.issue("busy")
	b.issue("odd")
	patch("busy", "", `{"spec":{"description":"seen"}}`)
	b.told(1, url.Values{"type": {"issue.note"}, "correlation_id": {"busy"}})
	time.Sleep(2 * time.Second) // what was seen is on disk
	b.kill()
	killed := time.Now()
	for i := range 20 {
		patch("busy", "", fmt.Sprintf(`{"spec":{"description":"unseen %d"}}`, i))
	}
	time.Sleep(3 * time.Second) // etcd is compacted
	patch("odd", "", `{"spec":{"riskScore":9}}`)
	time.Sleep(3 * time.Second)
	b.k.API.Stop()
	b.k.API.Start() // with nothing in its memory
	b.run()
	d := details(t, b.told(2, url.Values{"type": {"issue.note"}, "correlation_id": {"busy"}})[1])
	if d["to"] != "unseen 19" || d["from"] != "seen" || d["derived"] != "true" {
		t.Error(d)
	}
	if reasons := b.gaps(1, "issues.platform.chatcli.io"); !strings.Contains(reasons[0], "does not know") {
		t.Error(reasons)
	}
	for _, e := range b.server.events(url.Values{"type": {"CaptureGap"}}) {
		since, err := time.Parse(time.RFC3339, details(t, e)["since"])
		if err != nil || since.After(killed) || since.Before(killed.Add(-time.Minute)) {
			t.Errorf("since %s, %v; it was killed at %s", since, err, killed)
		}
	}
}

// A balancer passes connections on to whom answers, as a Service does.
type balancer struct {
	listener net.Listener
	to       []string
}

func newBalancer(t *testing.T, to ...string) *balancer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &balancer{l, to}
	go func() {
		var turn atomic.Int64
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go b.pass(c, int(turn.Add(1)))
		}
	}()
	return b
}

func (b *balancer) pass(c net.Conn, turn int) {
	defer c.Close()
	for i := range b.to {
		to, err := net.Dial("tcp", b.to[(turn+i)%len(b.to)])
		if err != nil {
			continue // it is dead: the next
		}
		defer to.Close()
		go func() {
			_, _ = io.Copy(to, c) // either end hangs up
			to.Close()
		}()
		_, _ = io.Copy(c, to)
		return
	}
}

// TestWhoeverOfTheOperatorsIsAskedAnswers, though one leads, and one is killed.
func TestWhoeverOfTheOperatorsIsAskedAnswers(t *testing.T) {
	t.Parallel()
	masters := []string{"system:masters"}
	b := newKube(t, map[string][]string{operatorUser: masters, "jane": masters})
	b.server.start()
	b.captured("approvalrequests", "approvalpolicies")
	b.k.Apply(testenv.KubeAdmin, approvalsPolicy)
	addresses := []string{freeAddress(t), freeAddress(t)}
	front := newBalancer(t, addresses...)
	dirs := []string{b.dir, t.TempDir()}
	operators := make([]*exec.Cmd, 2)
	start := func(i int) {
		b.dir = dirs[i]
		b.run("--leader-elect", "--lease-namespace", "chatcli-system", "--webhook-address", addresses[i], "--webhook-url", "https://"+front.listener.Addr().String())
		operators[i], b.cmd = b.cmd, nil
	}
	stop := func(i int) {
		if operators[i] != nil {
			_ = operators[i].Process.Kill() // it may have ended
			_ = operators[i].Wait()
			operators[i] = nil
		}
	}
	t.Cleanup(func() { stop(0); stop(1) })
	start(0)
	b.ready("approvals")
	start(1)
	approved := 0
	approve := func() {
		t.Helper()
		name := fmt.Sprint("r", approved)
		b.approval(name)
		if out, err := b.approve("jane", name, "jane:it is safe enough"); err != nil {
			t.Fatal(out, err)
		}
		approved++
	}
	refused := func() {
		t.Helper()
		if out, err := b.approve("jane", "probe", "jane:short", "--dry-run=server"); err == nil || !strings.Contains(out, "10 characters") {
			t.Error(out, err)
		}
	}
	b.approval("probe")
	both := func() {
		t.Helper()
		testenv.Eventually(t, "both answer", func() bool {
			for _, a := range addresses {
				c, err := tls.Dial("tcp", a, &tls.Config{InsecureSkipVerify: true})
				if err != nil {
					return false
				}
				c.Close()
			}
			_, err := b.approve("jane", "probe", "jane:short", "--dry-run=server")
			return err != nil
		})
	}
	both()
	for _, killed := range []int{0, 1, 0} {
		for range 4 {
			approve()
			refused()
		}
		stop(killed)
		approve() // the other one is asked
		refused()
		start(killed)
		both()
	}
	testenv.Eventually(t, "each approval is told once", func() bool {
		n := 0
		for i := range approved {
			n += len(b.server.events(url.Values{"type": {"ApprovalAttempted"}, "resource": {fmt.Sprint("r", i)}}))
		}
		return n == approved
	})
	for _, e := range b.server.events(url.Values{"type": {"ApprovalAttempted"}}) {
		if e.Actor.Name != "jane" || e.Recorded.Attribution != event.AttributionAdmission {
			t.Errorf("%+v", e)
		}
	}
	b.told(approved, url.Values{"type": {"IntentConfirmed"}, "actor": {"graven-operator"}, "kind": {"ApprovalRequest"}})
}
