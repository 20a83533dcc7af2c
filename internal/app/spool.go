package app

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graven-audit/graven/internal/deadletter"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/redis"
)

// A Spool keeps events while the store is away.
type Spool struct {
	// Directory is on a disk that outlives the server. It belongs to this
	// server alone.
	Directory string `yaml:"directory"`
	// Persistent says that it does: without, nobody may be told that an event
	// is kept.
	Persistent bool `yaml:"persistent"`
	// MaxBytes bounds it. Default 1 GiB.
	MaxBytes int64 `yaml:"maxBytes"`
}

// complete holds a spool against the rules.
func (s *Spool) complete(store string) error {
	switch {
	case *s == Spool{}:
		return nil
	case store == "":
		return wrong("spool", "for a ledger in a database (store) only: a directory is never away")
	case s.Directory == "":
		return wrong("spool.directory", "required")
	case !s.Persistent:
		return wrong("spool.persistent", "say true if the disk of spool.directory outlives the server; otherwise there is no use for it")
	case s.MaxBytes < 0 || s.MaxBytes > 0 && s.MaxBytes < minSpool:
		return wrong("spool.maxBytes", "from %d bytes on", minSpool)
	}
	return nil
}

// minSpool is the least that a spool may have, in bytes.
const minSpool = 16 << 20

// A kept is where events are kept while the store is away.
type kept interface {
	deadletter.Queue
	Quarantine(deadletter.Refused) error
	Close() error
}

// openKept opens what the configuration names.
func (a *App) openKept(ctx context.Context, warn func(error)) (kept, error) {
	c, origin := a.config, a.keys.Signer.Name()
	if c.DeadLetter != "" {
		return redis.Open(ctx, c.DeadLetter, redis.Options{Origin: origin, OnError: warn})
	}
	return deadletter.OpenDisk(c.Spool.Directory, origin, c.Spool.MaxBytes, warn)
}

// openSpool opens what keeps events while the store is away, and drains it into
// the ledger.
func (a *App) openSpool(ctx context.Context, journal *ledger.Journal, reg prometheus.Registerer) (*deadletter.Recorder, error) {
	warn := func(err error) { a.log.Warn("the spool", "error", err) }
	queue, err := a.openKept(ctx, warn)
	if err != nil {
		return nil, err
	}
	a.onStop("spool", func(context.Context) error { return queue.Close() })
	told := func(ctx context.Context, by ledger.By, r ledger.Result) {
		if act, ok := r.Conflict(by); ok {
			if err := journal.Record(ctx, act); err != nil {
				warn(err) // the event says it, too: original.id
			}
		}
	}
	r := deadletter.New(deadletter.Config{Ledger: a.ledger, Queue: queue, Quarantine: queue.Quarantine, Recorded: told, OnError: warn})
	a.onStop("draining", func(context.Context) error { r.Close(); return nil })
	count := func(name, help string, n func(deadletter.Stats) int64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(n(r.Stats())) })
	}
	reg.MustRegister(
		count("graven_spool_kept_total", "Events kept because the store was away.", func(s deadletter.Stats) int64 { return s.Spooled }),
		count("graven_spool_drained_total", "Events of the spool that were recorded.", func(s deadletter.Stats) int64 { return s.Drained }),
		count("graven_spool_refused_total", "Events of the spool that the ledger refused for good.", func(s deadletter.Stats) int64 { return s.Refused }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_spool_events", Help: "Events that wait for the store."},
			func() float64 { return float64(r.Stats().Kept) }))
	return r, nil
}
