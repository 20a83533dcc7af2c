package app

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
	"github.com/graven-audit/graven/verify/remote"
)

// A Target is what is verified: a server's log, a data directory, a database, or
// an export.
type Target struct {
	name   string
	log    *remote.Log // of a server, or
	export *os.File
	temp   bool // the export is a copy of ours
}

// OpenTarget finds out what a target is; log reaches a server by its URL. Of an
// export that cannot be read twice, such as a pipe, it makes a copy.
func OpenTarget(name string, log func(url string) (*remote.Log, error)) (*Target, error) {
	t := &Target{name: name}
	if strings.HasPrefix(name, "http://") || strings.HasPrefix(name, "https://") {
		var err error
		t.log, err = log(name)
		return t, err
	}
	if IsDatabase(name) {
		return t, nil
	}
	in := os.Stdin
	if name != "-" {
		var err error
		if in, err = os.Open(name); err != nil {
			return nil, err
		}
	}
	info, err := in.Stat()
	if err != nil || info.IsDir() {
		return t, errors.Join(err, in.Close())
	}
	if t.export = in; info.Mode().IsRegular() {
		return t, nil
	}
	defer in.Close()
	if t.export, err = os.CreateTemp("", "export-*.ndjson"); err != nil {
		return nil, err
	}
	t.temp = true
	if _, err := io.Copy(t.export, in); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Close closes what was opened, and removes a copy.
func (t *Target) Close() {
	if t.export != nil {
		t.export.Close()
	}
	if t.temp {
		os.Remove(t.export.Name())
	}
}

// Verify checks the target.
func (t *Target) Verify(ctx context.Context, o verify.Options) (*verify.Report, error) {
	switch {
	case t.log != nil:
		return verify.Log(ctx, t.name, t.log.Fetch, o)
	case t.export == nil:
		return VerifyStore(ctx, t.name, o)
	}
	r, err := verify.Export(ctx, t.export, o)
	if r != nil {
		r.Target = t.name
	}
	return r, err
}

// Claim returns the newest checkpoint by the target's own word, or nil, and
// whether the target has every entry under it.
func (t *Target) Claim(ctx context.Context) (c *trail.Checkpoint, whole bool) {
	var text []byte
	whole = true
	switch {
	case t.log != nil:
		text, _ = t.log.Fetch(ctx, verify.NewestPath)
	case t.export == nil:
		text = Claim(ctx, t.name)
	default:
		if last, _ := trail.LastLine(t.export); last != nil {
			text, whole = []byte(last.Checkpoint), last.Whole()
		}
	}
	c, _ = trail.ReadCheckpoint(text) // verifying will say what is wrong with it
	return c, whole
}

// Dated says what of the target may be older than the ledger, as [Dated] does.
func (t *Target) Dated(ctx context.Context) string {
	if t.export != nil {
		return "export"
	}
	return Dated(ctx, t.name)
}
