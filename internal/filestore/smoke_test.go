package filestore_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"crypto/rand"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
)

func TestSmoke(t *testing.T) {
	dir := t.TempDir()
	skey, vkey, _ := note.GenerateKey(rand.Reader, "test.local/1")
	signer, _ := note.NewSigner(skey)
	verifier, _ := note.NewVerifier(vkey)
	ctx := context.Background()
	for round := range 3 {
		s, err := filestore.Open(dir, filestore.Options{Verifier: verifier})
		if err != nil {
			t.Fatal(err)
		}
		l, err := ledger.Open(ctx, ledger.Config{Store: s, Signer: signer, VerifierKey: vkey})
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		var wg sync.WaitGroup
		for w := range 64 {
			wg.Go(func() {
				for i := range 200 {
					e := &event.Event{EventType: "IssueCreated", Timestamp: time.Now(), Actor: event.Actor{Type: "controller", Name: "c"},
						Resource: event.Resource{Kind: "Issue", Name: fmt.Sprint(i)}, CorrelationID: fmt.Sprintf("inc-%d", i)}
					e.SetDetails(map[string]any{"w": w, "i": i, "round": round})
					res, _, err := l.Append(ctx, ledger.By{Principal: "p", Via: "test"}, []*event.Event{e})
					if err != nil || res[0].Err != nil {
						t.Error(err, res)
						return
					}
				}
			})
		}
		wg.Wait()
		t.Logf("%d events in %v", 64*200, time.Since(begin))
		size := l.State().Size()
		if err := s.Wait(ctx, size); err != nil {
			t.Fatal(err)
		}
		t.Logf("size %d caught up %v", size, time.Since(begin))
		f := &search.Filter{CorrelationID: "inc-7"}
		n, err := s.Count(ctx, f, search.Range{End: size})
		got, err2 := s.Select(ctx, f, search.Range{End: size}, false, 5, 0)
		t.Log(n, err, got, err2)
		l.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
