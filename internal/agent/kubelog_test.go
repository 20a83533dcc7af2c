package agent_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/config"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/agent"
	"github.com/graven-audit/graven/internal/auditlog"
)

// A spool takes events, unless it is full.
type spool struct {
	mu   sync.Mutex
	full bool
	got  []*event.Event
}

func (s *spool) RecordMany(_ context.Context, events ...*event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full {
		return errors.New("full")
	}
	s.got = append(s.got, events...)
	return nil
}

// told returns the audit ids of what was recorded, and of what was not the reasons.
func (s *spool) told() (ids, gaps []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.got {
		var d struct{ AuditID, Reason string }
		if err := json.Unmarshal(e.Details, &d); err != nil {
			panic(err)
		}
		if e.EventType == "CaptureGap" {
			gaps = append(gaps, d.Reason)
			continue
		}
		ids = append(ids, d.AuditID)
	}
	return ids, gaps
}

// A kubeLog is an API server's log in a test's directory.
type kubeLog struct {
	t     *testing.T
	dir   string // of the log
	state string
	spool *spool
	stop  func()
}

func newKubeLog(t *testing.T) *kubeLog {
	return &kubeLog{t: t, dir: t.TempDir(), state: t.TempDir(), spool: &spool{}}
}

func (k *kubeLog) start() {
	k.t.Helper()
	policy, err := auditlog.ParsePolicy(config.AuditPolicy)
	if err != nil {
		k.t.Fatal(err)
	}
	l := &agent.KubeLog{File: k.file(), Policy: policy, Dir: k.state, Cluster: "eu", Sender: k.spool, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	stopped := false
	k.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			k.t.Error(err)
		}
	}
	k.t.Cleanup(k.stop)
}

func (k *kubeLog) file() string { return filepath.Join(k.dir, "audit.log") }

func (k *kubeLog) write(text string) {
	k.t.Helper()
	f, err := os.OpenFile(k.file(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		k.t.Fatal(err)
	}
}

// rotate does what API servers do.
func (k *kubeLog) rotate(at string) {
	k.t.Helper()
	if err := os.Rename(k.file(), filepath.Join(k.dir, "audit-"+at+".log")); err != nil {
		k.t.Fatal(err)
	}
}

// wants waits until requests are recorded, these and no others.
func (k *kubeLog) wants(want ...string) {
	k.t.Helper()
	var ids []string
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if ids, _ = k.spool.told(); len(ids) >= len(want) {
			break
		}
	}
	if !slices.Equal(ids, want) {
		k.t.Fatalf("recorded %v, want %v", ids, want)
	}
}

func request(id string) string {
	return fmt.Sprintf(`{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":%q,"stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/prod/deployments/api","verb":"patch",`+
		`"user":{"username":"alice","groups":["system:authenticated"]},"objectRef":{"resource":"deployments","namespace":"prod","name":"api","apiGroup":"apps","apiVersion":"v1"},`+
		`"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-11-21T10:00:00.000000Z","stageTimestamp":"2026-11-21T10:00:00.005000Z"}`+"\n", id)
}

func TestAnAuditLogIsReadOnceAcrossRotations(t *testing.T) {
	k := newKubeLog(t)
	k.start() // before there is a file
	k.write(request("a") + strings.ReplaceAll(request("read"), `"patch"`, `"get"`) + request("b")[:100])
	k.wants("a")
	k.write(request("b")[100:])
	k.wants("a", "b")
	k.rotate("2026-11-21T10-00-00.000")
	k.write(request("c"))
	k.wants("a", "b", "c")
	k.stop()
	k.write(request("d"))
	k.rotate("2026-11-21T11-00-00.000")
	k.write(request("e"))
	k.rotate("2026-11-21T12-00-00.000")
	k.write(request("f"))
	k.start()
	k.wants("a", "b", "c", "d", "e", "f")
	k.write(strings.ReplaceAll(request("ahead"), "2026-11-21", "2126-11-21"))
	k.wants("a", "b", "c", "d", "e", "f", "ahead")
	if e := k.spool.got[6]; e.Timestamp.After(time.Now()) || e.Original["timestamp"] != "2126-11-21T10:00:00Z" {
		t.Errorf("by a clock that is ahead: %v, %v", e.Timestamp, e.Original)
	}
	if _, gaps := k.spool.told(); gaps != nil {
		t.Errorf("gaps: %q", gaps)
	}
	if e := k.spool.got[0]; e.Cluster != "eu" || e.Actor.Name != "alice" || e.Resource.Name != "api" {
		t.Errorf("%+v", e)
	}
}

func TestWhatIsMissingOfAnAuditLogIsTold(t *testing.T) {
	k := newKubeLog(t)
	k.write(request("a") + "no JSON\n" + strings.Repeat("x", 9<<20) + "\n" + request("b"))
	k.start()
	k.wants("a", "b")
	k.stop()
	if err := os.Truncate(k.file(), 0); err != nil {
		t.Fatal(err)
	}
	k.write(request("c"))
	k.start()
	k.wants("a", "b", "c")
	k.stop()
	k.rotate("2026-11-21T10-00-00.000")
	if err := os.Rename(filepath.Join(k.dir, "audit-2026-11-21T10-00-00.000.log"), filepath.Join(k.dir, "elsewhere")); err != nil {
		t.Fatal(err)
	}
	k.write(request("d"))
	k.start()
	k.wants("a", "b", "c", "d")
	_, gaps := k.spool.told()
	for i, want := range []string{"the line at byte", "longer than", "a shorter one", "is gone"} {
		if i >= len(gaps) || !strings.Contains(gaps[i], want) {
			t.Fatalf("gaps: %q, want one that says %q", gaps, want)
		}
	}
	if len(gaps) != 4 {
		t.Errorf("gaps: %q", gaps)
	}
}

func TestAnAuditLogWaitsForRoomInTheSpool(t *testing.T) {
	k := newKubeLog(t)
	k.spool.full = true
	k.write(request("a"))
	k.start()
	time.Sleep(time.Second)
	k.spool.mu.Lock()
	k.spool.full = false
	k.spool.mu.Unlock()
	k.wants("a")
}

func TestAPositionThatCannotBeReadStopsTheReading(t *testing.T) {
	k := newKubeLog(t)
	if err := os.WriteFile(filepath.Join(k.state, "kube-audit-log.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &agent.KubeLog{File: k.file(), Dir: k.state, Sender: k.spool, Log: slog.New(slog.DiscardHandler)}
	if err := l.Run(t.Context()); err == nil {
		t.Error("it went on")
	}
}
