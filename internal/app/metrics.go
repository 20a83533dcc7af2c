package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/graven-audit/graven/internal/ledger"
)

// metrics of the ledger.
type metrics struct {
	events, bytes prometheus.Counter
	pools         prometheus.Histogram
	commit        prometheus.Histogram
}

func newMetrics(reg *prometheus.Registry, a *App, store interface{ Lag() int64 }) *metrics {
	m := &metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{Name: "graven_ledger_events_total", Help: "Events recorded since the start."}),
		bytes:  prometheus.NewCounter(prometheus.CounterOpts{Name: "graven_ledger_bytes_total", Help: "Bytes of entries and their content recorded since the start."}),
		pools: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "graven_ledger_pool_events", Help: "Events committed together.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8)}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "graven_ledger_commit_seconds", Help: "Time to make a pool durable.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)}),
	}
	reg.MustRegister(m.events, m.bytes, m.pools, m.commit,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_ledger_size", Help: "Entries in the ledger."}, func() float64 {
			if a.ledger == nil || a.ledger.State() == nil {
				return 0
			}
			return float64(a.ledger.State().Size())
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_ledger_stopped", Help: "1 once the ledger takes nothing more."}, func() float64 {
			if a.ledger != nil && a.ledger.Err() != nil {
				return 1
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "graven_index_lag_entries", Help: "Entries that queries cannot find yet."},
			func() float64 { return float64(store.Lag()) }))
	return m
}

func (m *metrics) pool(s ledger.PoolStats) {
	m.events.Add(float64(s.Events))
	m.bytes.Add(float64(s.Bytes))
	m.pools.Observe(float64(s.Events))
	m.commit.Observe(s.Duration.Seconds())
}
