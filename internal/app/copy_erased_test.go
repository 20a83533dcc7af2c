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

// erase has a server erase what a correlation id names in a ledger, and all that
// was to be erased before.
func (k *kept) erase(s storetest.Store, correlation string) {
	k.t.Helper()
	defer s.Close()
	l, err := ledger.Open(k.t.Context(), ledger.Config{Store: s, Signer: k.keys.Signer, VerifierKey: k.keys.VerifierKey, Version: "test"})
	if err != nil {
		k.t.Fatal(err)
	}
	defer l.Close()
	j := ledger.NewJournal(l)
	defer j.Close()
	x := erasure.New(erasure.Config{Ledger: l, Journal: j, Store: s, Holds: custody.New(l, j, s, time.Now), Policies: new(retention.Policies), Clock: erasure.NewSystemClock()})
	if err := x.Resume(k.t.Context()); err != nil {
		k.t.Fatal(err)
	}
	if _, err := x.Erase(k.t.Context(), custody.Caller{By: storetest.By}, &custody.Order{Reason: "r", Scope: retention.Scope{CorrelationID: correlation}}); err != nil {
		k.t.Fatal(err)
	}
}

func (k *kept) eraseIn(target, correlation string) {
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
	k.erase(s, correlation)
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
