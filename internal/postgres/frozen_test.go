package postgres_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv("GRAVEN_TEST_DSN") == "" {
		m.Run()
	} else if err := write(); err != nil {
		fmt.Fprintln(os.Stderr, err) // the test misses what was not recorded
	}
}

// write is another process that writes to a ledger, until it is killed. It
// prints the number of each event that was acknowledged.
func write() error {
	signer, err := note.NewSigner(os.Getenv("GRAVEN_TEST_SKEY"))
	if err != nil {
		return err
	}
	vkey := os.Getenv("GRAVEN_TEST_VKEY")
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := postgres.Open(ctx, os.Getenv("GRAVEN_TEST_DSN"), postgres.Options{Verifier: verifier})
	if err != nil {
		return err
	}
	l, err := ledger.Open(ctx, ledger.Config{Store: s, Signer: signer, VerifierKey: vkey})
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(os.Getenv("GRAVEN_TEST_FIRST"))
	if err != nil {
		return err
	}
	for n := first; ; n++ {
		for {
			results, _, err := l.Append(ctx, storetest.By, []*event.Event{storetest.Event(n)})
			if err == nil {
				err = results[0].Err
			}
			if err == nil {
				break
			}
			if !errors.Is(err, ledger.ErrAway) && !errors.Is(err, ledger.ErrBusy) {
				return err
			}
		}
		fmt.Println(n)
	}
}

// A process is another process that writes.
type process struct {
	cmd          *exec.Cmd
	acknowledged atomic.Int64
	done         chan struct{}
}

// startProcess starts one, whose events are numbered from first on.
func startProcess(t *testing.T, dsn, skey string, b *storetest.Bed, first int) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), "GRAVEN_TEST_DSN="+dsn, "GRAVEN_TEST_SKEY="+skey, "GRAVEN_TEST_VKEY="+b.VerifierKey, fmt.Sprint("GRAVEN_TEST_FIRST=", first))
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.acknowledged.Add(1)
		}
	}()
	return p
}

func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }

// kill kills the process and returns how many of its events were acknowledged.
func (p *process) kill() int {
	p.signal(syscall.SIGKILL)
	<-p.done
	_ = p.cmd.Wait() // it says that it was killed
	return int(p.acknowledged.Load())
}

func TestAServerThatDiesOrStandsStillKeepsNobodyWaiting(t *testing.T) {
	server := testenv.StartPostgres(t)
	b := newBed(t, server)
	dsn := server.DSN("test1", "app")
	r := b.Start(t)
	var ours int
	alone := func(d time.Duration) { // events by this process
		for end := time.Now().Add(d); time.Now().Before(end); ours++ {
			if !once(t, r.Ledger, storetest.Event(ours)) {
				t.FailNow()
			}
		}
	}
	acknowledged := map[int]int{} // by the first number of a process
	for i := range 4 {
		first := 1_000_000 * (i + 1)
		p := startProcess(t, dsn, b.SignerKey, b, first)
		for p.acknowledged.Load() == 0 {
			alone(10 * time.Millisecond)
		}
		for range 5 {
			alone(20 * time.Millisecond)
			p.signal(syscall.SIGSTOP)
			before := ours
			alone(100 * time.Millisecond)
			if i == 0 {
				for ours < before+5 {
					alone(100 * time.Millisecond)
				}
			}
			p.signal(syscall.SIGCONT)
		}
		alone(50 * time.Millisecond)
		acknowledged[first] = p.kill()
	}
	alone(50 * time.Millisecond)
	var all []event.ID
	for n := range ours {
		all = append(all, storetest.Event(n).ID)
	}
	for first, count := range acknowledged {
		if count == 0 {
			t.Error("a process has recorded nothing")
		}
		for n := range count {
			all = append(all, storetest.Event(first+n).ID)
		}
	}
	indexes := make([]int64, len(all))
	if err := r.Store.Find(t.Context(), all, indexes); err != nil {
		t.Fatal(err)
	}
	for i, index := range indexes {
		if index < 0 {
			t.Errorf("event %s was acknowledged and is lost", all[i])
		}
	}
	if err := r.Ledger.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.Check(b)
}
