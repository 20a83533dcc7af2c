package filestore_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
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
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testdisk"
	"github.com/graven-audit/graven/verify"
)

const (
	childDir  = "GRAVEN_TEST_CHILD" // the data directory of a child
	childKey  = "GRAVEN_TEST_KEY"
	childVKey = "GRAVEN_TEST_VKEY"
	// What a child records: pools of events that fill several segments.
	childPools, childEvents = 9, 3
)

// TestAChildRecordsWhileItIsTraced is the program whose system calls fail; on
// its own it does nothing.
func TestAChildRecordsWhileItIsTraced(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := child(dir); err != nil {
			fmt.Println("refused:", strings.ReplaceAll(err.Error(), "\n", "; "))
		}
	}
}

// child opens the ledger, records, reads and closes, and tells what was
// acknowledged and refused, a line each.
func child(dir string) error {
	signer, verifier, err := childKeys()
	if err != nil {
		return err
	}
	ctx := context.Background()
	store, err := filestore.Open(dir, childOptions(verifier))
	if err != nil {
		return err
	}
	l, err := ledger.Open(ctx, ledger.Config{Store: store, Signer: signer, VerifierKey: os.Getenv(childVKey)})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	var failures []error
	for pool := range childPools {
		events := make([]*event.Event, childEvents)
		for i := range events {
			events[i] = childEvent(pool*childEvents + i)
		}
		results, cover, err := l.Append(ctx, storetest.By, events)
		for i, r := range results {
			if err == nil {
				err = r.Err
			}
			if err == nil {
				fmt.Println("recorded", pool*childEvents+i, r.Index, base64.StdEncoding.EncodeToString(cover.Note))
			}
		}
		failures = append(failures, err)
		if pool == childPools/2 { // what was written is read, in between
			size := l.State().Size()
			short, cancel := context.WithTimeout(ctx, 5*time.Second)
			failures = append(failures, store.Wait(short, size))
			cancel()
			for index := range size {
				_, err := store.Record(ctx, index)
				failures = append(failures, err)
			}
		}
	}
	l.Close()
	return errors.Join(append(failures, store.Close())...)
}

// childKeys returns the keys that a traced program was given.
func childKeys() (note.Signer, note.Verifier, error) {
	signer, err := note.NewSigner(os.Getenv(childKey))
	if err != nil {
		return nil, nil, err
	}
	verifier, err := note.NewVerifier(os.Getenv(childVKey))
	return signer, verifier, err
}

func childOptions(verifier note.Verifier) filestore.Options {
	return filestore.Options{Verifier: verifier, SegmentSize: 8 << 10, Reserve: 4 << 10}
}

func childEvent(n int) *event.Event {
	e := storetest.Event(n)
	if err := e.SetDetails(map[string]any{"number": n, "text": strings.Repeat("x", 500)}); err != nil {
		panic(err)
	}
	return e
}

// faults are what can happen to a system call.
var faults = []fault{
	{name: "EIO", errno: syscall.EIO},
	{name: "EIO, though done", errno: syscall.EIO, done: true},
	{name: "ENOSPC", errno: syscall.ENOSPC},
	{name: "EINTR", errno: syscall.EINTR},
	{name: "a short write", short: true},
	{name: "a kill", kill: true},
	{name: "a kill behind it", kill: true, done: true},
}

// TestEverySystemCallFailsOnce runs a program that begins a ledger, records,
// rolls segments, derives, reads and closes, and another that goes on with it,
// and has each of their system calls on the ledger's files fail once in every
// way, or the program killed there. Then everything that was acknowledged must be
// there once, at its index, the ledger be of one history and good, and go on.
// How calls of the writer and the follower mix differs from run to run; the
// faults fall on whatever the nth call is.
func TestEverySystemCallFailsOnce(t *testing.T) {
	seed := mathrand.Uint64()
	t.Logf("seed %d", seed)
	x := newExaminer(t)
	var todo []ordeal
	lengths := map[bool]int{}
	for _, second := range []bool{false, true} {
		seen := x.run(t, ordeal{second: second, nth: -1})
		lengths[second] = len(seen)
		for nth := range seen {
			for _, f := range faults {
				if f.applies(seen[nth]) {
					todo = append(todo, ordeal{second, nth, f})
				}
			}
		}
	}
	t.Logf("%d and %d calls, %d faults", lengths[false], lengths[true], len(todo))
	if lengths[false] < 100 || lengths[true] < 50 {
		t.Fatal("most calls were not seen")
	}
	rng := mathrand.New(mathrand.NewPCG(seed, 1))
	rng.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	todo = todo[:min(len(todo), systemCallFaults)]
	work := make(chan ordeal)
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for o := range work {
				x.run(t, o)
			}
		})
	}
	for _, o := range todo {
		if t.Failed() {
			break
		}
		work <- o
	}
	close(work)
	workers.Wait()
	var met []string
	for c, n := range x.met {
		met = append(met, fmt.Sprintf("%s: %d", c, n))
	}
	slices.Sort(met)
	t.Logf("met by\n%s", strings.Join(met, "\n"))
}

// An ordeal is a run in which a fault happens to the nth call of the program
// that begins a ledger, or of the second.
type ordeal struct {
	second bool
	nth    int
	fault  fault
}

type examiner struct {
	dir        string
	skey, vkey string
	bed        *storetest.Bed

	mu  sync.Mutex
	met map[string]int // faults by call and name
}

func newExaminer(t *testing.T) *examiner {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "test.example/ledger")
	if err != nil {
		t.Fatal(err)
	}
	x := &examiner{dir: testdisk.MemoryDir(t), skey: skey, vkey: vkey, bed: &storetest.Bed{VerifierKey: vkey}, met: map[string]int{}}
	if x.bed.Signer, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if x.bed.Verifier, err = note.NewVerifier(vkey); err != nil {
		t.Fatal(err)
	}
	return x
}

// run runs the program, once or twice, with the fault, and judges what is left.
func (x *examiner) run(t *testing.T, o ordeal) []call {
	dir, err := os.MkdirTemp(x.dir, "")
	if err != nil {
		t.Error(err)
		return nil
	}
	defer os.RemoveAll(dir)
	acknowledged, told := map[int]int64{}, [][]byte{}
	what := fmt.Sprintf("%s at call %d, second start %v", o.fault.name, o.nth, o.second)
	start := func(nth int, f fault) (seen []call, refused string) {
		out, err := os.Create(filepath.Join(x.dir, filepath.Base(dir)+".out"))
		if err != nil {
			t.Error(err)
			return nil, ""
		}
		defer os.Remove(out.Name())
		defer out.Close()
		env := append(os.Environ(), childDir+"="+dir, childKey+"="+x.skey, childVKey+"="+x.vkey)
		if seen, err = trace(dir, []string{"/proc/self/exe", "-test.run=^TestAChildRecordsWhileItIsTraced$"}, env, out, nth, f); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		refused = x.read(t, what, out.Name(), acknowledged, &told)
		return seen, refused
	}
	if o.second {
		if _, refused := start(-1, fault{}); refused != "" {
			t.Errorf("the first start: %s", refused)
		}
	}
	seen, refused := start(o.nth, o.fault)
	if o.nth >= 0 && o.nth < len(seen) {
		c := seen[o.nth]
		what = fmt.Sprintf("%s, a %s of %s", what, c.name, c.file)
		x.mu.Lock()
		x.met[c.name+", "+o.fault.name]++
		x.mu.Unlock()
		// SQLite takes some of them for failures, and the next start goes on.
		if refused != "" && o.fault.errno == syscall.EINTR && !strings.HasPrefix(c.file, datadir.IndexFile) {
			t.Errorf("%s: what was only interrupted is refused: %s", what, refused)
		}
		if refused != "" && o.fault.short {
			t.Errorf("%s: a short write is refused: %s", what, refused)
		}
	}
	if (o.nth < 0 || o.fault.kill) && refused != "" {
		t.Errorf("%s: %s", what, refused)
	}
	x.judge(t, what, dir, acknowledged, told)
	return seen
}

// read reads what a child said, and returns what it refused.
func (x *examiner) read(t *testing.T, what, path string, acknowledged map[int]int64, told *[][]byte) (refused string) {
	data, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
	}
	lines := bufio.NewScanner(strings.NewReader(string(data)))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if lines.Text() == "PASS" {
			continue // says package testing
		}
		var n int
		var index int64
		var text string
		if _, err := fmt.Sscanf(lines.Text(), "recorded %d %d %s", &n, &index, &text); err != nil {
			refused += lines.Text()
			continue
		}
		cover, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			continue // it was killed while it wrote the line
		}
		if was, ok := acknowledged[n]; ok && was != index {
			t.Errorf("%s: event %d was acknowledged at %d and at %d", what, n, was, index)
		}
		acknowledged[n] = index
		*told = append(*told, cover)
	}
	if refused != "" && !strings.HasPrefix(refused, "refused: ") {
		t.Errorf("%s: %s", what, refused)
	}
	return refused
}

// judge holds what is left against what was acknowledged, and goes on with it.
func (x *examiner) judge(t *testing.T, what, dir string, acknowledged map[int]int64, told [][]byte) {
	ctx := t.Context()
	good := func(when string) {
		if len(acknowledged) == 0 {
			return // there may be no ledger yet, which is no good one
		}
		report, err := verify.Dir(ctx, dir, verify.Options{Keys: []note.Verifier{x.bed.Verifier}, Since: told, Workers: 1})
		if err != nil {
			t.Errorf("%s: verify %s: %v", what, when, err)
		} else if !report.OK() {
			t.Errorf("%s: verify %s: %+v", what, when, report.Findings[0])
		}
	}
	good("as it was left")
	store, err := openStore(dir, childOptions(x.bed.Verifier), x.bed)
	if err != nil {
		t.Errorf("%s: it does not open again: %v", what, err)
		return
	}
	l, err := ledger.Open(ctx, ledger.Config{Store: store, Signer: x.bed.Signer, VerifierKey: x.vkey})
	if err != nil {
		t.Errorf("%s: it does not open again: %v", what, errors.Join(err, store.Close()))
		return
	}
	at := map[int64]int{}
	for n := range childPools*childEvents + 1 {
		results, _, err := l.Append(ctx, storetest.By, []*event.Event{childEvent(n)})
		if err == nil {
			err = results[0].Err
		}
		if err != nil {
			t.Errorf("%s: it does not go on: %v", what, err)
			break
		}
		r := results[0]
		if index, ok := acknowledged[n]; ok && (!r.Duplicate || r.Index != index) {
			t.Errorf("%s: event %d was acknowledged at %d, now: %+v", what, n, index, r.Receipt)
		}
		if other, ok := at[r.Index]; ok {
			t.Errorf("%s: events %d and %d both stand at %d", what, other, n, r.Index)
		}
		at[r.Index] = n
	}
	size := l.State().Size()
	for index := range size {
		r, err := store.Record(ctx, index)
		if err != nil {
			t.Errorf("%s: %v", what, err)
		} else if e, err := r.Event(); err != nil {
			t.Errorf("%s: %v", what, err)
		} else if n, ok := at[index]; ok && e.ID != childEvent(n).ID {
			t.Errorf("%s: entry %d is not event %d", what, index, n)
		}
	}
	if want := int64(1 + childPools*childEvents + 1); size != want {
		t.Errorf("%s: %d entries, want %d: something stands there twice", what, size, want)
	}
	l.Close()
	if err := store.Close(); err != nil {
		t.Errorf("%s: %v", what, err)
	}
	report, err := filestore.Verify(ctx, dir, verify.Options{Keys: []note.Verifier{x.bed.Verifier}, Since: told, Workers: 1})
	if err != nil {
		t.Errorf("%s: verify: %v", what, err)
	} else if !report.OK() {
		t.Errorf("%s: verify: %+v", what, report.Findings[0])
	}
}
