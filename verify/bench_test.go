package verify_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// cpu returns the processor time that the process has used.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// writeLarge writes a ledger of n events of about 1 KiB, in pools of the given
// size, and returns the lengths of entries and details.
func writeLarge(b *testing.B, dir string, n, pool int) (key, [][2]int) {
	b.Helper()
	l := newLedger(b, 1, 1)
	for name, data := range l.image(b) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(dir, trail.LogDir)
	if err := os.Remove(filepath.Join(path, seglog.SegmentName(0))); err != nil {
		b.Fatal(err)
	}
	log, err := seglog.Open(path, seglog.Options{FS: unsynced{}})
	if err != nil {
		b.Fatal(err)
	}
	var sizes [][2]int
	var batch seglog.Batch
	flush := func() {
		l.seal(b)
		batch.Add(func(dst []byte) []byte { return append(append(dst, trail.FrameCheckpoint), l.newest().Note...) })
		if log.Full() {
			if err := log.Roll(uint64(len(sizes) - (len(sizes)-1)%pool - 1)); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := log.Append(&batch, false); err != nil {
			b.Fatal(err)
		}
		batch.Reset()
		l.pools = l.pools[len(l.pools)-1:]
	}
	template := l.event(b)
	template.Actor = event.Actor{Type: "controller", Name: "remediation-reconciler", ServiceAccount: "chatcli-operator"}
	template.Resource = event.Resource{APIVersion: "platform.chatcli.io/v1alpha1", Kind: "RemediationPlan", Namespace: "production", Name: "plan-rollback-api-server"}
	template.Outcome, template.Error, template.Original = event.OutcomeSuccess, event.Failure{}, nil
	template.CorrelationID, template.Source = "inc-8f2a4b", event.Source{Name: "operator-0"}
	last := l.records[0]
	for i := range n {
		r := last
		if i > 0 {
			e := *template
			e.ID = event.DeriveID(fmt.Sprint(i))
			e.Source.Seq = int64(i)
			if err := e.SetDetails(map[string]any{"n": i, "text": strings.Repeat("details ", 30)}); err != nil {
				b.Fatal(err)
			}
			r = trail.Record{Index: int64(i), Salt: event.Salt{byte(i), 1}}
			r.Entry = e.AppendEntry(nil, e.Digests(r.Salt))
			r.Erasable = e.AppendErasable(nil)
			r.Chain = trail.Link(last.Chain, r.Entry)
			l.tree.Append(trail.LeafHash(r.Entry), nil)
		}
		last = r
		sizes = append(sizes, [2]int{len(r.Entry), len(r.Erasable)})
		batch.Add(r.AppendFrame)
		if len(sizes)%pool == 0 || i == n-1 {
			flush()
		}
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	var page [trail.TipSize]byte
	copy(page[:], l.newest().Note)
	if err := os.WriteFile(filepath.Join(dir, trail.TipFile), page[:], 0o600); err != nil {
		b.Fatal(err)
	}
	return l.key, sizes
}

// BenchmarkDir holds the verification of a directory against bare SHA-256 over
// the same bytes: link, leaf, details and the tree's nodes. The ratio is of
// processor time.
func BenchmarkDir(b *testing.B) {
	for _, pool := range []int{512, 16, 1} {
		b.Run(fmt.Sprintf("pools of %d", pool), func(b *testing.B) {
			dir := b.TempDir()
			const n = 100_000
			k, sizes := writeLarge(b, dir, n, pool)
			began := cpu(b)
			var workers sync.WaitGroup
			for w := range runtime.GOMAXPROCS(0) {
				workers.Go(func() {
					buf := make([]byte, 64<<10)
					for range b.N {
						for i := w; i < n; i += runtime.GOMAXPROCS(0) {
							sha256.Sum256(buf[:64+sizes[i][0]])
							sha256.Sum256(buf[:1+sizes[i][0]])
							sha256.Sum256(buf[:16+sizes[i][1]-len(`{"details":}`)])
							sha256.Sum256(buf[:65])
						}
					}
				})
			}
			workers.Wait()
			bare := cpu(b) - began
			b.ResetTimer()
			began = cpu(b)
			for range b.N {
				r, err := verify.Dir(context.Background(), dir, verify.Options{Keys: []note.Verifier{k.verifier}})
				if err != nil || !r.OK() || r.Entries != n {
					b.Fatal(err, describe(r))
				}
			}
			used := cpu(b) - began
			b.ReportMetric(float64(bare)/float64(used), "of-bare-SHA-256")
			b.ReportMetric(float64(n)*float64(b.N)/used.Seconds(), "events/CPU-s")
			b.ReportMetric(float64(sizes[1000][0]+sizes[1000][1]), "B/event")
		})
	}
}
