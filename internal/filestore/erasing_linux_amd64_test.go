package filestore_test

import (
	"context"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testdisk"
	"github.com/graven-audit/graven/verify"
)

// agedEvents is how many events an eraser finds, whose content is due, and
// prunedBelow the index below which it erases entries; lateEvent is recorded then.
const agedEvents, prunedBelow, lateEvent = 300, 256, 1000

// TestAChildErasesWhileItIsTraced is the program whose system calls fail; on its
// own it does nothing.
func TestAChildErasesWhileItIsTraced(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := erasingChild(dir); err != nil {
			fmt.Println("refused:", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

// erasingChild opens an aged ledger, has what is due erased, and records another
// event. It tells what it has done, a line each.
func erasingChild(dir string) (err error) {
	signer, verifier, err := childKeys()
	if err != nil {
		return err
	}
	policies, err := retention.NewPolicies(tenDays)
	if err != nil {
		return err
	}
	ctx := context.Background()
	store, err := filestore.Open(dir, filestore.Options{Verifier: verifier, SegmentSize: 64 << 10})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	l, err := ledger.Open(ctx, ledger.Config{Store: store, Signer: signer, VerifierKey: os.Getenv(childVKey)})
	if err != nil {
		return err
	}
	defer l.Close()
	journal := ledger.NewJournal(l)
	defer func() { err = errors.Join(err, journal.Close()) }()
	eraser := erasure.New(erasure.Config{Ledger: l, Journal: journal, Store: store, Holds: custody.New(l, journal, store, time.Now), Policies: policies,
		Confirmations: 1, Clock: &storetest.Clock{Time: time.Now()}, Look: time.Millisecond})
	result, err := eraser.Run(ctx, storetest.By, false)
	if err == nil && result.Left != "" {
		err = errors.New(result.Left)
	}
	if err == nil && result.Entries == prunedBelow {
		fmt.Println("erased")
	}
	results, _, failed := l.Append(ctx, storetest.By, []*event.Event{childEvent(lateEvent)})
	if failed == nil {
		failed = results[0].Err
	}
	if failed == nil {
		fmt.Println("recorded")
	}
	return errors.Join(err, failed)
}

// TestEverySystemCallOfAnErasureFailsOnce has each system call of a program that
// erases entries fail once in every way, or the program killed there. Then the
// ledger must be good as it was left, the erasure finished by the next start if
// its tombstone was recorded, and not begun if it was not.
func TestEverySystemCallOfAnErasureFailsOnce(t *testing.T) {
	t.Parallel()
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	template := t.TempDir()
	b, r := aged(t, template, filestore.Options{}, agedEvents)
	r.Stop()
	x := &erasingExaminer{template: template, bed: b, dir: testdisk.MemoryDir(t)}
	seen := x.run(t, -1, fault{})
	var todo []ordeal
	for nth := range seen {
		for _, f := range faults {
			if f.applies(seen[nth]) {
				todo = append(todo, ordeal{nth: nth, fault: f})
			}
		}
	}
	t.Logf("%d calls, %d faults", len(seen), len(todo))
	if len(seen) < 100 {
		t.Fatal("most calls were not seen")
	}
	rng := mathrand.New(mathrand.NewPCG(seed, 1))
	rng.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	work := make(chan ordeal)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for o := range work {
				x.run(t, o.nth, o.fault)
			}
		})
	}
	for _, o := range todo[:min(len(todo), erasureFaults)] {
		if t.Failed() {
			break
		}
		work <- o
	}
	close(work)
	workers.Wait()
}

type erasingExaminer struct {
	template string
	bed      *storetest.Bed
	dir      string
}

// run runs the program on a copy of the aged ledger with the fault, and judges
// what is left.
func (x *erasingExaminer) run(t *testing.T, nth int, f fault) []call {
	dir, err := os.MkdirTemp(x.dir, "")
	if err != nil {
		t.Error(err)
		return nil
	}
	defer os.RemoveAll(dir)
	data, said := filepath.Join(dir, "ledger"), filepath.Join(dir, "said")
	what := fmt.Sprintf("%s at call %d", f.name, nth)
	out, err := os.Create(said)
	if err == nil {
		err = os.CopyFS(data, os.DirFS(x.template))
	}
	if err != nil {
		t.Error(err)
		return nil
	}
	defer out.Close()
	env := append(os.Environ(), childDir+"="+data, childKey+"="+x.bed.SignerKey, childVKey+"="+x.bed.VerifierKey)
	seen, err := trace(data, []string{"/proc/self/exe", "-test.run=^TestAChildErasesWhileItIsTraced$"}, env, out, nth, f)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	text, err := os.ReadFile(said)
	if err != nil {
		t.Error(err)
	}
	lines := strings.Split(string(text), "\n")
	erased, recorded := slices.Contains(lines, "erased"), slices.Contains(lines, "recorded")
	refused := slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "refused: ") })
	if nth >= 0 && nth < len(seen) {
		what = fmt.Sprintf("%s, a %s of %s", what, seen[nth].name, seen[nth].file)
		if refused && (f.short || f.errno == syscall.EINTR && !strings.HasPrefix(seen[nth].file, datadir.IndexFile)) {
			t.Errorf("%s: what was only interrupted is refused: %s", what, text)
		}
	}
	if nth < 0 && !(erased && recorded) || f.kill && refused {
		t.Errorf("%s: %s", what, text)
	}
	x.judge(t, what, data, erased, recorded)
	return seen
}

func (x *erasingExaminer) judge(t *testing.T, what, dir string, erased, recorded bool) {
	gone := func() bool { return len(grep(t, dir, fmt.Appendf(nil, "canary-actor-%d", prunedBelow-2))) == 0 }
	if erased && !gone() {
		t.Errorf("%s: it said that all is erased, and it is not", what)
	}
	o := verify.Options{Keys: []note.Verifier{x.bed.Verifier}, Workers: 1}
	if report, err := verify.Dir(t.Context(), dir, o); err != nil || !report.OK() {
		t.Errorf("%s: verify as it was left: %+v, %v", what, report, err)
	}
	bed := &storetest.Bed{Signer: x.bed.Signer, Verifier: x.bed.Verifier, VerifierKey: x.bed.VerifierKey}
	bed.Open = func() (storetest.Store, error) {
		return openStore(dir, filestore.Options{Verifier: bed.Verifier, SegmentSize: 64 << 10}, bed)
	}
	r, err := bed.TryStart(t)
	if err != nil {
		t.Errorf("%s: it does not open again: %v", what, err)
		return
	}
	defer r.Stop()
	again := r.Erasing(0, 1)
	defer again.Journal.Close()
	if err := again.Eraser.Resume(t.Context()); err != nil {
		t.Errorf("%s: it does not go on: %v", what, err)
	}
	named := again.Keeper.Pruned() > 0
	content := len(grep(t, dir, fmt.Appendf(nil, "canary-details-%d", agedEvents-2))) > 0
	if named != gone() || named == content {
		t.Errorf("%s: named %v, gone %v, content %v", what, named, gone(), content)
	}
	for index := range int64(agedEvents) {
		rec, err := again.Store.Record(t.Context(), index)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		if index > 0 && ((rec.Erasable == nil) != named || (rec.Leaf != nil) != (named && index < prunedBelow)) {
			t.Errorf("%s: entry %d: erased %v, named %v", what, index, rec.Leaf != nil, named)
		}
	}
	results, _, err := r.Ledger.Append(t.Context(), storetest.By, []*event.Event{childEvent(lateEvent)})
	if err != nil || results[0].Err != nil || recorded && !results[0].Duplicate {
		t.Errorf("%s: what was recorded before: %+v, %v", what, results, err)
	}
	if err := r.Store.Wait(t.Context(), r.Ledger.State().Size()); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	if report, err := r.Store.Verify(t.Context(), o); err != nil || !report.OK() {
		t.Errorf("%s: verify: %+v, %v", what, report, err)
	}
}
