package app

import (
	"context"
	"errors"
	"fmt"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/succession"
)

// Successor returns what makes a ledger in a directory, which is being restored,
// that succeeds another: its keys, and the first entry, which says so.
func Successor(ctx context.Context, origin, version string) func(dir string, p *succession.Predecessor) error {
	return func(dir string, p *succession.Predecessor) error { return foundSuccessor(ctx, dir, origin, version, p) }
}

func foundSuccessor(ctx context.Context, dir, origin, version string, p *succession.Predecessor) (err error) {
	if origin == p.Origin {
		return fmt.Errorf("the origin %s is that of the predecessor: a ledger has its name for itself", origin)
	}
	keys, err := keyring.Create(dir, origin)
	if err != nil {
		return err
	}
	store, err := filestore.Open(dir, filestore.Options{Verifier: keys.Verifier, Unfinished: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	l, err := ledger.Open(ctx, ledger.Config{Store: store, Signer: keys.Signer, VerifierKey: keys.VerifierKey, Version: version, Predecessor: p})
	if err != nil {
		return err
	}
	l.Close()
	return keyring.MarkUsed(dir)
}
