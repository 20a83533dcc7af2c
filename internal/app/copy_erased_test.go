package app_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/internal/storetest"
	"github.com/graven-audit/graven/internal/testenv"
	"github.com/graven-audit/graven/internal/transfer"
	"github.com/graven-audit/graven/trail"
)

// serve has a server, whose policy is that all is kept for ten days, erase what was
// to be erased in a ledger, and then do something.
func (k *kept) serve(target string, do func(*erasure.Eraser, *custody.Keeper) error) {
	k.t.Helper()
	var s storetest.Store
	var err error
	if app.IsDatabase(target) {
		s, err = postgres.Open(k.t.Context(), target, postgres.Options{Verifier: k.keys.Verifier})
	} else {
		s, err = filestore.Open(target, filestore.Options{Verifier: k.keys.Verifier, SegmentSize: 8 << 10})
	}
	if err != nil {
		k.t.Fatal(err)
	}
	defer s.Close()
	l, err := ledger.Open(k.t.Context(), ledger.Config{Store: s, Signer: k.keys.Signer, VerifierKey: k.keys.VerifierKey, Version: "test"})
	if err != nil {
		k.t.Fatal(err)
	}
	defer l.Close()
	j := ledger.NewJournal(l)
	defer j.Close()
	policies, err := retention.NewPolicies([]retention.Policy{{Name: "all", DetailsDays: 10, EntryDays: 10}})
	if err != nil {
		k.t.Fatal(err)
	}
	keeper := custody.New(l, j, s, time.Now)
	x := erasure.New(erasure.Config{Ledger: l, Journal: j, Store: s, Holds: keeper, Policies: policies, Clock: erasure.NewSystemClock(), OnError: func(err error) { k.t.Error(err) }})
	if err := errors.Join(x.Resume(k.t.Context()), do(x, keeper)); err != nil {
		k.t.Fatal(err)
	}
}

// eraseIn erases what a correlation id names.
func (k *kept) eraseIn(target, correlation string) {
	k.t.Helper()
	k.serve(target, func(x *erasure.Eraser, _ *custody.Keeper) error {
		_, err := x.Erase(k.t.Context(), custody.Caller{By: storetest.By}, &custody.Order{Reason: "r", Scope: retention.Scope{CorrelationID: correlation}})
		return err
	})
}

func TestALedgerOfWhichEntriesWereErasedIsCopiedBetweenAllPlaces(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 600)
	database := func() string { return server.DSN(tables(t, server), "app") }
	dir := func() string { return filepath.Join(t.TempDir(), "new") }
	first, who := database(), custody.Caller{By: storetest.By}
	server.SQL("postgres", "GRANT graven_purger TO app")
	copied(t, app.Copy{From: k.dir, To: first}) // with all entries
	var hold string
	run := func(target string, entries int64) {
		t.Helper()
		k.serve(target, func(x *erasure.Eraser, keeper *custody.Keeper) error {
			if hold != "" {
				if _, err := keeper.Release(t.Context(), who, hold, &custody.Order{Reason: "settled"}); err != nil {
					return err
				}
			} else {
				placed, err := keeper.Place(t.Context(), who, &custody.Order{Reason: "r", Scope: retention.Scope{Event: storetest.Event(350).ID.String()}})
				if err != nil {
					return err
				}
				hold = placed.ID
			}
			result, err := x.Run(t.Context(), storetest.By, false)
			if err == nil && (result.Entries != entries || result.Left != "") {
				t.Errorf("%s: %+v", target, result)
			}
			return err
		})
	}
	same := func(last string, to ...string) {
		t.Helper()
		want := whole(t, k.keys.Verifier, last)
		for _, to := range to {
			r := copied(t, app.Copy{From: last, To: to, SegmentSize: 1 << 16})
			good(t, k.keys.Verifier, to)
			if got := whole(t, k.keys.Verifier, to); got != want {
				t.Fatalf("the copy from %s to %s is another", last, to)
			}
			if again := copied(t, app.Copy{From: last, To: to}); again.Checkpoint.Root != r.Checkpoint.Root || again.Checkpoints != 0 {
				t.Errorf("once more: %+v", again)
			}
			last = to
		}
	}
	run(k.dir, 256)
	good(t, k.keys.Verifier, k.dir)
	second := database()
	same(k.dir, second, dir())
	copied(t, app.Copy{From: k.dir, To: second, Move: true})
	run(second, 256)
	good(t, k.keys.Verifier, second)
	same(second, dir(), database())
	// A copy that was made before erases what it is told of since.
	copied(t, app.Copy{From: second, To: first, Move: true})
	k.serve(first, func(*erasure.Eraser, *custody.Keeper) error { return nil })
	good(t, k.keys.Verifier, first)
	if got, want := whole(t, k.keys.Verifier, first), whole(t, k.keys.Verifier, second); !strings.HasPrefix(got, want) {
		t.Error("what is left of the entries is another")
	}
}

func TestALedgerOfWhichContentWasErasedIsCopiedAndMoved(t *testing.T) {
	server := testenv.StartPostgres(t)
	k := keep(t, "copy.example/a", 90)
	database := server.DSN(tables(t, server), "app")
	server.SQL("postgres", "GRANT graven_purger TO app")
	copied(t, app.Copy{From: k.dir, To: database}) // with all content
	k.eraseIn(k.dir, "inc-1")
	copied(t, app.Copy{From: k.dir, To: database, Move: true})
	good(t, k.keys.Verifier, database)
	k.eraseIn(database, "inc-2")
	good(t, k.keys.Verifier, database)
	back := filepath.Join(t.TempDir(), "new")
	copied(t, app.Copy{From: database, To: back, SegmentSize: 1 << 16})
	good(t, k.keys.Verifier, back)
	if whole(t, k.keys.Verifier, back) != whole(t, k.keys.Verifier, database) {
		t.Error("the copy is another")
	}
	copied(t, app.Copy{From: database, To: k.dir, Move: true})
	k.eraseIn(k.dir, "inc-3")
	good(t, k.keys.Verifier, k.dir)
	copied(t, app.Copy{From: k.dir, To: back})
	good(t, k.keys.Verifier, back)
}

func TestContentThatIsGoneIsNotCopiedAtTheSecondTryEither(t *testing.T) {
	k := keep(t, "copy.example/a", 90)
	l, err := seglog.Open(filepath.Join(k.dir, trail.LogDir), seglog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = l.Rewrite(0, filepath.Join(k.dir, "tmp"), func(dst, body []byte) ([]byte, error) {
		if r, err := trail.ParseFrame(body); err == nil && r.Index == 5 {
			return r.AppendErased(dst), nil
		}
		return append(dst, body...), nil
	})
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "new")
	for range 2 {
		_, err := (&app.Copy{From: k.dir, To: to, SegmentSize: 1 << 16}).Run(t.Context())
		if !errors.Is(err, transfer.ErrRefused) || !strings.Contains(err.Error(), "entry 5") {
			t.Errorf("got %v", err)
		}
	}
}
