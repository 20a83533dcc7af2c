package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// A store keeps the ledger: a directory, or a database.
type store interface {
	ledger.Store
	rest.Store
	erasure.Store
	Lag() int64
	Close() error
}

// openStore opens the store of the configuration, and returns the newest
// checkpoint in it.
func (a *App) openStore(ctx context.Context, progress func(done, total int64)) (store, *trail.Checkpoint, error) {
	onError := func(err error) { a.log.Warn("the store", "error", err) }
	c := a.config
	if c.Store != "" {
		s, err := a.openDatabase(ctx, onError)
		if err != nil {
			return nil, nil, err
		}
		newest, err := s.Newest(ctx)
		return s, newest, err
	}
	s, err := filestore.Open(c.Data, filestore.Options{Verifier: a.keys.Verifier, TipFile: c.TipFile, Used: !a.keys.Unused,
		SegmentSize: c.SegmentSize, Progress: progress, ReadOnly: c.ReadOnly, OnError: onError})
	if err != nil {
		return nil, nil, err
	}
	a.onStop("store", func(context.Context) error { return s.Close() })
	return served{s, c.Data}, s.Head().Checkpoint, nil
}

// seenFile is the newest checkpoint of a ledger in a database, in the data
// directory of one of its servers: an older copy of the database is not opened.
const seenFile = "seen.checkpoint"

// openDatabase opens the ledger in the database of the configuration.
func (a *App) openDatabase(ctx context.Context, onError func(error)) (*postgres.Store, error) {
	c := a.config
	seen := []string{filepath.Join(c.Data, seenFile)}
	if c.TipFile != "" {
		seen = append(seen, c.TipFile)
	}
	o := postgres.Options{Verifier: a.keys.Verifier, ReadOnly: c.ReadOnly, OnError: onError}
	for _, path := range seen {
		text, err := datadir.ReadTip(path)
		if err != nil {
			return nil, err
		}
		if text = bytes.TrimRight(text, "\x00"); len(text) == 0 {
			continue
		}
		known, err := trail.OpenCheckpoint(text, a.keys.Verifier)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		o.Known = append(o.Known, known)
	}
	s, err := postgres.Open(ctx, c.Store, o)
	if err != nil {
		return nil, err
	}
	a.onStop("store", func(context.Context) error { return s.Close() })
	if !c.ReadOnly {
		a.keepSeen(s, seen)
	}
	return s, nil
}

// keepSeen keeps the newest checkpoint of a database in files, until the store
// is closed.
func (a *App) keepSeen(s *postgres.Store, paths []string) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		var kept []byte
		for last := false; ; {
			if c := s.Seen(); c != nil && !bytes.Equal(c.Note, kept) {
				var err error
				for _, path := range paths {
					err = errors.Join(err, seglog.WriteFile(seglog.OS{}, path, c.Note))
				}
				if err == nil {
					kept = c.Note
				} else {
					a.log.Warn("the newest checkpoint could not be kept", "error", err)
				}
			}
			if last {
				return
			}
			select {
			case <-tick.C:
			case <-quit:
				last = true
			}
		}
	}()
	a.onStop("checkpoint", func(context.Context) error {
		close(quit)
		<-done
		return nil
	})
}

// openKeys loads the ledger's keys, or makes them for a new one. To read takes
// the public key only.
func (a *App) openKeys(ctx context.Context) (*keyring.Keys, error) {
	c := a.config
	if c.ReadOnly {
		return keyring.Public(c.Data)
	}
	keys, err := keyring.Load(c.Data)
	if !errors.Is(err, keyring.ErrNone) {
		if err == nil && c.Origin != "" && c.Origin != keys.Signer.Name() {
			return nil, fmt.Errorf("configuration: origin: this ledger is called %s, and a ledger keeps its name", keys.Signer.Name())
		}
		return keys, err
	}
	if isDir(filepath.Join(c.Data, trail.LogDir)) {
		return nil, fmt.Errorf("%s holds a ledger but not its key: bring back %s/keys", c.Data, c.Data)
	}
	if c.Store != "" {
		text, err := postgres.Claim(ctx, c.Store)
		if err != nil {
			return nil, err
		}
		if text != nil {
			return nil, fmt.Errorf("the database holds a ledger, and %s not its key: copy the directory keys of another of its servers there", c.Data)
		}
	}
	return keyring.Create(c.Data, c.Origin)
}
