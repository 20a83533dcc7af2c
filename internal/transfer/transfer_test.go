package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testkey"
	"github.com/graven-audit/graven/internal/transfer"
	"github.com/graven-audit/graven/trail"
)

// A step is a record or a checkpoint.
type step struct {
	record *trail.Record
	note   []byte
}

// A log is a source in memory, and a target.
type log struct {
	steps  []step
	head   ledger.Head
	hashes []tlog.Hash
	waits  int
	// fail, if not nil, decides of each Append.
	fail func(size int64) error
}

func (l *log) Size() int64 { return l.head.Tree.Size() }

func (l *log) Read(_ context.Context, first, end int64, record func(*trail.Record) error, checkpoint func([]byte) error) error {
	next := int64(0)
	for _, s := range l.steps {
		var err error
		switch {
		case s.record != nil:
			next++
			if next > first && next <= end {
				copied := *s.record // which is overwritten
				copied.Entry, copied.Erasable = bytes.Clone(s.record.Entry), bytes.Clone(s.record.Erasable)
				err = record(&copied)
				clear(copied.Entry)
				clear(copied.Erasable)
			}
		case next >= first && next <= end:
			err = checkpoint(s.note)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *log) Lock(context.Context, int64) (ledger.Head, error) { return l.head, nil }
func (l *log) Unlock()                                          {}
func (l *log) Wait(context.Context, int64) error                { l.waits++; return nil }
func (l *log) Recent(context.Context, time.Time, time.Time) (map[event.ID]int64, error) {
	return nil, nil
}
func (l *log) Record(context.Context, int64) (trail.Record, error) {
	return trail.Record{}, errors.New("nobody asks")
}

func (l *log) Find(_ context.Context, _ []event.ID, indexes []int64) error {
	for i := range indexes {
		indexes[i] = -1
	}
	return nil
}

func (l *log) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, l.hashes[i])
	}
	return out, nil
}

func (l *log) Append(_ context.Context, p *ledger.Pool) error {
	if l.fail != nil {
		if err := l.fail(l.Size()); err != nil {
			return err
		}
	}
	for i := range p.Records {
		r := p.Records[i] // whose memory is the caller's
		r.Entry, r.Erasable = bytes.Clone(r.Entry), bytes.Clone(r.Erasable)
		hashes, err := tlog.StoredHashes(r.Index, r.Entry, l)
		if err != nil {
			return err
		}
		if p.Events[i].ID == (event.ID{}) || p.Leaves[i] != trail.LeafHash(r.Entry) {
			return fmt.Errorf("pool: event %d", i)
		}
		l.hashes = append(l.hashes, hashes...)
		l.steps = append(l.steps, step{record: &r})
	}
	l.steps = append(l.steps, step{note: p.Head.Checkpoint.Note})
	l.head = p.Head
	return nil
}

// record records n pools of three events, with numbers from first on.
func (l *log) record(t *testing.T, signer note.Signer, vkey string, first, n int) {
	t.Helper()
	led, err := ledger.Open(t.Context(), ledger.Config{Store: l, Signer: signer, VerifierKey: vkey, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	defer led.Close()
	for i := first; i < first+3*n; i += 3 {
		events := []*event.Event{storetest.Event(i), storetest.Event(i + 1), storetest.Event(i + 2)}
		results, _, err := led.Append(t.Context(), storetest.By, events)
		for _, r := range results {
			err = errors.Join(err, r.Err)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestACopyHasTheSamePoolsAndGoesOnWhereItFailed(t *testing.T) {
	signer, verifier, vkey := testkey.New(t, "transfer.example/a")
	var source, target log
	source.record(t, signer, vkey, 0, 20)
	broken := errors.New("broken")
	c := transfer.Copy{Source: &source, Key: verifier, From: "the source", To: "the target"}
	for at := int64(0); at < source.Size(); at += 13 {
		busy := 0
		target.fail = func(size int64) error {
			if size >= at {
				return broken
			}
			if busy++; busy%3 != 0 {
				return ledger.ErrBusy
			}
			return nil
		}
		if _, err := c.Run(t.Context(), &target); !errors.Is(err, broken) {
			t.Fatalf("at %d: %v", at, err)
		}
		if target.Size() < at || target.Size() > at+3 {
			t.Errorf("at %d the target has %d entries", at, target.Size())
		}
		if _, err := c.Prove(t.Context(), &target, nil); !errors.Is(err, transfer.ErrRefused) {
			t.Errorf("half a copy is proven: %v", err)
		}
	}
	target.fail = nil
	if _, err := c.Run(t.Context(), &target); err != nil {
		t.Fatal(err)
	}
	if target.waits == 0 {
		t.Error("nobody waited for a target that was busy")
	}
	same := func(a, b step) bool {
		return bytes.Equal(a.note, b.note) && (a.record == nil) == (b.record == nil) &&
			(a.record == nil || a.record.Chain == b.record.Chain && bytes.Equal(a.record.Entry, b.record.Entry) &&
				a.record.Salt == b.record.Salt && bytes.Equal(a.record.Erasable, b.record.Erasable))
	}
	if !slices.EqualFunc(source.steps, target.steps, same) {
		t.Error("the copy is another")
	}
	proven, err := c.Prove(t.Context(), &target, []*trail.Checkpoint{source.head.Checkpoint})
	if err != nil || proven.Root != source.head.Tree.Root() {
		t.Errorf("%v, %v", proven, err)
	}
	other := *proven
	other.Size, other.Root = 7, trail.Hash{}
	if _, err := c.Prove(t.Context(), &target, []*trail.Checkpoint{&other}); !errors.Is(err, transfer.ErrRefused) {
		t.Errorf("another history was given out: %v", err)
	}
}

func TestWhatIsNotWhatWasSignedIsRefusedBeforeItIsAppended(t *testing.T) {
	signer, verifier, vkey := testkey.New(t, "transfer.example/a")
	forger, _, _ := testkey.New(t, "transfer.example/a")
	var good log
	good.record(t, signer, vkey, 0, 10)
	// In good, step 0 is entry 0, step 1 its checkpoint; then entries 1 to 3
	// stand in steps 2 to 4, and so on: entry 14 in step 19.
	for name, tt := range map[string]struct {
		change func(steps []step) []step
		want   string
		left   int64 // in the target
	}{
		"an entry":            {func(s []step) []step { s[19].record.Entry[20] ^= 1; return s }, "entry 14 does not follow", 13},
		"a chain value":       {func(s []step) []step { s[19].record.Chain[3] ^= 1; return s }, "entry 14 does not follow", 13},
		"the content":         {func(s []step) []step { s[19].record.Erasable[20] ^= 1; return s }, "entry 14", 13},
		"the content is gone": {func(s []step) []step { s[19].record.Erasable = nil; return s }, "entry 14", 0},
		"content and salt are gone": {func(s []step) []step {
			s[19].record.Erasable, s[19].record.Salt = nil, event.Salt{}
			return s
		}, "entry 14", 0},
		"the salt":           {func(s []step) []step { s[19].record.Salt[2] ^= 1; return s }, "entry 14", 13},
		"an entry less":      {func(s []step) []step { return slices.Delete(s, 19, 20) }, "where entry 14 should be there is entry 15", 13},
		"an entry twice":     {func(s []step) []step { return slices.Insert(s, 19, s[19]) }, "where entry 15 should be", 13},
		"a signature":        {func(s []step) []step { s[21].note[len(s[21].note)-10] ^= 1; return s }, "the checkpoint behind entry 15", 13},
		"a checkpoint twice": {func(s []step) []step { return slices.Insert(s, 22, s[21]) }, "", 31},
		"another's checkpoint": {func(s []step) []step {
			c, err := trail.SignCheckpoint(forger.Name(), 16, trail.Hash{}, forger)
			if err != nil {
				t.Fatal(err)
			}
			s[21].note = c.Note
			return s
		}, "the checkpoint behind entry 15", 13},
		"a root that is signed, and wrong": {func(s []step) []step {
			c, err := trail.SignCheckpoint(signer.Name(), 16, trail.Hash{}, signer)
			if err != nil {
				t.Fatal(err)
			}
			s[21].note = c.Note
			return s
		}, "the checkpoint behind entry 15 is not that", 13},
		"the last checkpoint less": {func(s []step) []step { return s[:len(s)-1] }, "no checkpoint behind entry 27", 28},
	} {
		t.Run(name, func(t *testing.T) {
			source := log{head: good.head}
			for _, s := range good.steps {
				if s.record != nil {
					r := *s.record
					r.Entry, r.Erasable = bytes.Clone(r.Entry), bytes.Clone(r.Erasable)
					s.record = &r
				}
				s.note = bytes.Clone(s.note)
				source.steps = append(source.steps, s)
			}
			source.steps = tt.change(source.steps)
			var target log
			c := transfer.Copy{Source: &source, Key: verifier, From: "the source", To: "the target"}
			_, err := c.Run(t.Context(), &target)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
			} else if !errors.Is(err, transfer.ErrRefused) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if target.Size() != tt.left {
				t.Errorf("%d entries were copied, not %d", target.Size(), tt.left)
			}
		})
	}
}

func TestATargetToWhichOthersAppendIsLeftAlone(t *testing.T) {
	signer, verifier, vkey := testkey.New(t, "transfer.example/a")
	var source, target log
	source.record(t, signer, vkey, 0, 5)
	target.fail = func(size int64) error {
		if size == 7 {
			return ledger.ErrMoved
		}
		return nil
	}
	c := transfer.Copy{Source: &source, Key: verifier, From: "the source", To: "the target"}
	if _, err := c.Run(t.Context(), &target); !errors.Is(err, transfer.ErrRefused) || !strings.Contains(err.Error(), "somebody else") {
		t.Errorf("%v", err)
	}
	target.fail = nil
	target.record(t, signer, vkey, 1000, 7)
	if _, err := c.Run(t.Context(), &target); !errors.Is(err, transfer.ErrRefused) || !strings.Contains(err.Error(), "ahead") {
		t.Errorf("%v", err)
	}
}
