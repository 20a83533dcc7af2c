package main

import (
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// writing starts a server with small segments, and writers, who stop with the
// returned function.
func writing(t *testing.T, data string, writers int) (d *daemon, stop func()) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "graven.yaml")
	if err := os.WriteFile(config, []byte("segmentSize: 65536\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := startDaemon(data, os.Environ(), "--config", config)
	if err != nil {
		t.Fatal(err)
	}
	c := connect(t, data, d.url)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	began := make(chan struct{})
	for w := range writers {
		wg.Go(func() {
			for n := w; ctx.Err() == nil; n += writers {
				if _, err := c.RecordBatch(ctx, &client.Batch{Events: [][]byte{numbered(n)}}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if n == 700 {
					close(began)
				}
			}
		})
	}
	select {
	case <-began:
	case <-time.After(time.Minute):
		t.Fatal("the writers do not get on")
	}
	return d, func() {
		cancel()
		wg.Wait()
	}
}

// TestABackupThatIsKilledAgainAndAgainStaysGood kills backups of a server at
// work, at random moments.
func TestABackupThatIsKilledAgainAndAgainStaysGood(t *testing.T) {
	dir := t.TempDir()
	data, to := filepath.Join(dir, "data"), filepath.Join(dir, "backup")
	d, stop := writing(t, data, 4)
	defer func() {
		stop()
		d.stop(syscall.SIGTERM)
	}()
	key, err := app.Keys("--key", []string{filepath.Join(data, trail.VKeyFile)})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	size, killed := int64(0), 0
	for range 25 {
		cmd := exec.Command("graven", "backup", "--data", data, to)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(time.Duration(10+rand.IntN(150))*time.Millisecond, func() { cmd.Process.Kill() })
		if cmd.Wait() != nil {
			killed++
		}
		if m, err := datadir.ReadManifest(to); err != nil {
			t.Fatal(err)
		} else if m == nil || m.Size == 0 {
			continue // it was killed before it had got anywhere
		}
		r := verified(t, to, key, seen)
		if r.Size < size {
			t.Errorf("the backup had %d entries, and now has %d", size, r.Size)
		}
		size = r.Size
		seen[string(r.Checkpoint)] = true
	}
	stop()
	if out, err := exec.Command("graven", "backup", "--data", data, to).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if r := verified(t, to, key, seen); r.Size < size || r.Size < 700 {
		t.Errorf("%d entries, there were %d", r.Size, size)
	}
	oneHistory(t, data, seen)
	t.Logf("%d of 25 were killed, %d states were seen", killed, len(seen))
}

// verified demands that a backup is good and extends what was seen of it.
func verified(t *testing.T, dir string, keys []note.Verifier, seen map[string]bool) *verify.Report {
	t.Helper()
	o := verify.Options{Keys: keys}
	for s := range seen {
		o.Since = append(o.Since, []byte(s))
	}
	r, err := verify.Dir(t.Context(), dir, o)
	if err != nil || !r.OK() {
		t.Fatalf("%v, %+v", err, r)
	}
	return r
}

// The commands of docs/operations.md, in the order in which they stand there.
func TestABackupOfARunningServerCanBeRestored(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "graven-data")
	d, stop := writing(t, data, 1)
	out, err := shell(t, dir, blocks(t, "docs/operations.md", "backup")[0])
	stop()
	if err != nil || !strings.Contains(out, "GOOD: everything matches") {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := d.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out, err = shell(t, dir, blocks(t, "docs/operations.md", "restore")[0])
	if err != nil || !strings.Contains(out, "GOOD: everything matches") {
		t.Fatalf("%v\n%s", err, out)
	}
	if d, err = startDaemon(filepath.Join(dir, "restored"), os.Environ()); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, data, d.url).RecordBatch(t.Context(), &client.Batch{Events: [][]byte{numbered(-1)}}); err != nil {
		t.Errorf("the restored ledger takes no events: %v", err)
	}
	if err := d.stop(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	out, err = shell(t, dir, blocks(t, "docs/operations.md", "successor")[0])
	if err != nil || !strings.Contains(out, "it succeeds the ledger graven.local/") || !strings.Contains(out, "GOOD") {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "successor", "predecessor", datadir.BackupFile)); err != nil {
		t.Error(err)
	}
}
