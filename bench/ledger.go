package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/ledger"
)

// An opened ledger is one in this process.
type opened struct {
	store  *filestore.Store
	ledger *ledger.Ledger
	key    note.Verifier
}

// by is the principal of all events.
var by = ledger.By{Principal: "bench", Via: "internal"}

// openLedger opens the ledger in a directory, or makes one.
func openLedger(dir string) (*opened, error) {
	keys, err := loadKeys(dir)
	if err != nil {
		return nil, err
	}
	store, err := filestore.Open(dir, filestore.Options{Verifier: keys.Verifier})
	if err != nil {
		return nil, err
	}
	l, err := ledger.Open(context.Background(), ledger.Config{Store: store, Signer: keys.Signer, VerifierKey: keys.VerifierKey, Version: "bench"})
	return &opened{store, l, keys.Verifier}, err
}

// loadKeys loads the keys in a directory, or makes both.
func loadKeys(dir string) (*keyring.Keys, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	keys, err := keyring.Load(dir)
	if errors.Is(err, keyring.ErrNone) {
		return keyring.Create(dir, "bench.example/ledger")
	}
	return keys, err
}

func (o *opened) close() error {
	o.ledger.Close()
	return o.store.Close()
}

// settle waits for the follower, and notes how far behind it was and what it
// still needed.
func (o *opened) settle(s *Sample) {
	lag, began := o.store.Lag(), cpuOf(os.Getpid())
	for o.store.Lag() > 0 {
		time.Sleep(5 * time.Millisecond)
	}
	s.note("lag events", float64(lag))
	s.note("follower's CPU s", (cpuOf(os.Getpid()) - began).Seconds())
}

// gravenWriter records events with the ledger in this process.
func gravenWriter(r run) (Sample, error) {
	o, err := openLedger(filepath.Join(r.Dir, "ledger"))
	if err != nil {
		return Sample{}, err
	}
	s, err := record(o.ledger, r)
	if err != nil {
		return s, err
	}
	o.settle(&s)
	return s, o.close()
}

// record has producers record events.
func record(l *ledger.Ledger, r run) (Sample, error) {
	ctx := context.Background()
	return producers(r, r.Producers, int64(r.Batch), func(p int, seq int64) error {
		events := make([]*event.Event, r.Batch)
		for i := range events {
			events[i] = newEvent(int64(p)<<32 + seq*int64(r.Batch) + int64(i))
		}
		for {
			results, _, err := l.Append(ctx, by, events)
			if err == ledger.ErrBusy {
				time.Sleep(time.Millisecond)
				continue
			}
			for i := range results {
				if results[i].Err != nil {
					return results[i].Err
				}
			}
			return err
		}
	})
}

func newSigner() (note.Signer, error) {
	skey, _, err := note.GenerateKey(rand.Reader, "bench.example/log")
	if err != nil {
		return nil, err
	}
	return note.NewSigner(skey)
}
