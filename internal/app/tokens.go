package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/seglog"
)

// openTokens reads the tokens, which stand beside the ledger, and reports
// whether there are none yet.
func (a *App) openTokens(ctx context.Context, s store) (tokens *access.Tokens, fresh bool, err error) {
	if database, ok := s.(*postgres.Store); ok {
		return a.shareTokens(ctx, database)
	}
	path := filepath.Join(a.config.Data, datadir.TokensFile)
	_, err = os.Stat(path)
	fresh = errors.Is(err, os.ErrNotExist) && !a.config.ReadOnly
	tokens, err = access.OpenTokens(path, func(data []byte) error {
		if a.config.ReadOnly {
			return ledger.ErrReadOnly
		}
		return seglog.WriteFile(seglog.OS{}, path, data)
	})
	return tokens, fresh, err
}

const (
	// tokensDocument is the name of the document that holds the tokens, for all
	// servers of a database.
	tokensDocument = "tokens"
	// tokensEvery is how often it is looked whether another server has changed
	// them.
	tokensEvery = time.Second
	tokensWait  = 10 * time.Second
)

// shareTokens reads the tokens that the servers of a database share, and follows
// them until the store is closed.
func (a *App) shareTokens(ctx context.Context, s *postgres.Store) (tokens *access.Tokens, fresh bool, err error) {
	data, version, err := s.Document(ctx, tokensDocument, 0)
	if err != nil {
		return nil, false, err
	}
	var mu sync.Mutex // guards version
	tokens, err = access.NewTokens("the database", data, func(data []byte) error {
		if a.config.ReadOnly {
			return ledger.ErrReadOnly
		}
		mu.Lock()
		defer mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), tokensWait)
		defer cancel()
		err := s.SaveDocument(ctx, tokensDocument, version, data)
		switch {
		case errors.Is(err, postgres.ErrReplaced):
			return fmt.Errorf("%w: %w", ledger.ErrBusy, err)
		case err == nil:
			version++
		}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	follow := func(ctx context.Context) error {
		mu.Lock()
		defer mu.Unlock()
		data, is, err := s.Document(ctx, tokensDocument, version)
		if err != nil || is == version {
			return err
		}
		if err = tokens.Replace(data); err == nil {
			version = is
		}
		return err
	}
	a.background("tokens", func(ctx context.Context) {
		every(ctx, tokensEvery, func() {
			if err := follow(ctx); err != nil && ctx.Err() == nil {
				a.log.Warn("the tokens could not be read again", "error", err)
			}
		})
	})
	return tokens, version == 0 && !a.config.ReadOnly, nil
}

// background runs fn until the server stops.
func (a *App) background(name string, fn func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		fn(ctx)
	}()
	a.onStop(name, func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}

// every calls fn now and then, until ctx ends.
func every(ctx context.Context, interval time.Duration, fn func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			fn()
		}
	}
}

// makeFirstToken makes a token for the administrator, who makes all others.
func (a *App) makeFirstToken(ctx context.Context, tokens *access.Tokens) error {
	first := access.Token{Name: "admin", Role: access.Superadmin, CreatedBy: "graven"}
	if err := a.record(ctx, "TokenCreated", event.Resource{Kind: "Token", Name: first.Name},
		map[string]any{"name": first.Name, "role": string(first.Role), "reason": "there were no tokens"}); err != nil {
		return err
	}
	secret, path := access.NewSecret(), filepath.Join(a.config.Data, datadir.AdminTokenFile)
	if err := seglog.WriteFile(seglog.OS{}, path, []byte(secret+"\n")); err != nil {
		return fmt.Errorf("write the first token: %w", err)
	}
	err := tokens.Add(first, secret, time.Now())
	if errors.Is(err, postgres.ErrReplaced) { // another server of the database was faster
		return os.Remove(path)
	}
	return err
}
