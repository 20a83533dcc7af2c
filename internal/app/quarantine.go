package app

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/agent"
	"github.com/graven-audit/graven/internal/deadletter"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/quarantine"
	"github.com/graven-audit/graven/internal/redis"
)

// A Place says whose quarantine is meant.
type Place struct {
	// Spool is a spool's directory: of an agent, a recorder, or a server.
	Spool string
	// Config, if not empty, is the configuration file of a server, which says
	// where that keeps events while its database is away.
	Config string
}

// A Quarantine is one of which something may be had out.
type Quarantine interface {
	// Out carries out a decision of what a key names, which is durable then.
	Out(ctx context.Context, key string, d quarantine.Decision) error
	Close() error
}

// stream opens the quarantine of a server that keeps events in a stream; nil where
// it is a directory, which p names then.
func (p *Place) stream(ctx context.Context) (*redis.Quarantine, error) {
	if p.Config == "" {
		return nil, nil
	}
	c, err := ReadConfig(p.Config)
	if err != nil {
		return nil, err
	}
	p.Spool = c.Spool.Directory
	switch {
	case c.DeadLetter == "" && p.Spool == "":
		return nil, fmt.Errorf("%s: there is neither spool nor deadLetter: the server keeps no events, and has no quarantine", p.Config)
	case c.DeadLetter == "":
		return nil, nil
	}
	keys, err := keyring.Public(cmp.Or(c.Data, "graven-data"))
	if err != nil {
		return nil, fmt.Errorf("%s: the ledger's name stands in its key: %w", c.Data, err)
	}
	return redis.OpenQuarantine(ctx, c.DeadLetter, keys.Verifier.Name())
}

// Quarantined returns what is in quarantine, and how many lines of it cannot be
// read. Whoever writes there is not disturbed.
func (p Place) Quarantined(ctx context.Context) (list []quarantine.Held, torn int, err error) {
	stream, err := p.stream(ctx)
	if err != nil {
		return nil, 0, err
	}
	if stream != nil {
		defer stream.Close()
		list, err = stream.List(ctx)
		return list, 0, err
	}
	if deadletter.IsDisk(p.Spool) {
		return deadletter.ReadDisk(p.Spool)
	}
	return quarantine.Read(filepath.Join(p.Spool, quarantine.RecorderFile))
}

// Quarantine opens the quarantine.
func (p Place) Quarantine(ctx context.Context) (Quarantine, error) {
	stream, err := p.stream(ctx)
	switch {
	case err != nil:
		return nil, err
	case stream != nil:
		return stream, nil
	case deadletter.IsDisk(p.Spool):
		return deadletter.OpenDiskQuarantine(p.Spool)
	}
	q, err := agent.OpenQuarantine(p.Spool)
	if err != nil {
		return nil, err
	}
	return recorders{q}, nil
}

// recorders is the quarantine of an agent or a recorder.
type recorders struct{ agent.Quarantine }

func (q recorders) Out(ctx context.Context, key string, d quarantine.Decision) error {
	var err error
	if d.Type == event.TypeRetried {
		_, err = q.Retry(ctx, key, d.By)
	} else {
		_, err = q.Drop(ctx, key, d.By, d.Because)
	}
	return err
}
