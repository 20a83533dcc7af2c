package app

import (
	"context"
	"strings"

	"github.com/graven-audit/graven/internal/backup"
	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/verify"
)

// VerifyDir checks a data directory, its index, and the predecessor that it may
// keep.
func VerifyDir(ctx context.Context, dir string, o verify.Options) (*verify.Report, error) {
	r, err := filestore.Verify(ctx, dir, o)
	if err == nil {
		err = backup.VerifyPredecessor(ctx, dir, o, r)
	}
	return r, err
}

// IsDatabase reports whether a target is the address of a database.
func IsDatabase(target string) bool {
	return strings.HasPrefix(target, "postgres://") || strings.HasPrefix(target, "postgresql://")
}

// VerifyStore checks a ledger in a directory or a database.
func VerifyStore(ctx context.Context, target string, o verify.Options) (*verify.Report, error) {
	if IsDatabase(target) {
		return postgres.Verify(ctx, target, o)
	}
	return VerifyDir(ctx, target, o)
}

// A served store is one of which the server's clients have the whole directory
// checked.
type served struct {
	*filestore.Store
	dir string
}

// Verify checks what [VerifyDir] does.
func (s served) Verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	r, err := s.Store.Verify(ctx, o)
	if err == nil {
		err = backup.VerifyPredecessor(ctx, s.dir, o, r)
	}
	return r, err
}
