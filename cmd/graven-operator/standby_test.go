package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/testenv"
)

// TestOfTwoOperatorsOneWorks and the other goes on when it is killed, with what the
// first has on its disk left to that one.
func TestOfTwoOperatorsOneWorks(t *testing.T) {
	t.Parallel()
	b := newBed(t, true)
	flags := []string{"--leader-elect", "--lease-namespace", "chatcli-system"}
	first, second := b.dir, t.TempDir()
	b.run(flags...)
	b.create("jane", auditEvent("production", "first", "inc-first"))
	b.waitSealed("production", "first")
	leader := b.cmd
	b.dir = second
	b.run(flags...)
	standby := b.cmd
	t.Cleanup(func() {
		_, _ = leader.Process.Kill(), standby.Process.Kill() // they may have ended
		_, _ = leader.Wait(), standby.Wait()
	})
	b.cmd = nil
	const n = 40
	for i := range n {
		b.create("jane", auditEvent("production", fmt.Sprint("flow-", i), fmt.Sprint("inc-", i/5)))
		b.record(fmt.Sprint("mir-", i/5), time.Now().UTC())
		if i == n/2 {
			if err := leader.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = leader.Wait()
		}
	}
	testenv.Eventually(t, "all are sealed, and mirrored", func() bool {
		all, sealed := b.sealed()
		return all == sealed && all > 3*n
	})
	by := map[string]int{}
	for _, e := range b.server.events(url.Values{"type": {"IssueCreated"}}) {
		by[e.Name+" by "+e.Recorded.Principal]++
	}
	for i := range n {
		if name := fmt.Sprintf("flow-%d by jane", i); by[name] != 1 {
			t.Errorf("%s: %d times", name, by[name])
		}
	}
	if b.copies() > 0 {
		t.Error("some were taken for copies")
	}

	b.server.stop()
	b.create("jane", auditEvent("dev", "lost", "inc-lost"))
	time.Sleep(time.Second) // until it was seen
	b.k.Kubectl(testenv.KubeAdmin, "delete", "namespace", "dev", "--timeout=60s")
	kept := func() int {
		names, err := filepath.Glob(filepath.Join(second, "unsealed", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	testenv.Eventually(t, "what went is on the disk of who leads", func() bool { return kept() == 1 })
	if err := standby.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = standby.Wait()
	b.server.start()
	b.dir = first
	b.run(flags...)
	leader = b.cmd
	b.create("jane", auditEvent("production", "after", "inc-after"))
	b.waitSealed("production", "after") // and the other leads
	b.dir = second
	b.run(flags...)
	standby = b.cmd
	b.cmd = nil
	b.one(url.Values{"correlation_id": {"inc-lost"}, "type": {"AuditEventDeletedUnsealed"}})
	testenv.Eventually(t, "nothing is on the disk any more", func() bool { return kept() == 0 })
}
