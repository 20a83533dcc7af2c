package controller

import (
	"net/http"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what the operator tells of itself.
type metrics struct {
	sealed, refused, lost, mirrored, unmirrored, pruned prometheus.Counter
	copies, requests                                    *prometheus.CounterVec
	unsealed, lag, rung, degraded                       prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "graven", Subsystem: "operator", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "graven", Subsystem: "operator", Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	vector := func(name, help, label string, values ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "graven", Subsystem: "operator", Name: name, Help: help}, []string{label})
		r.MustRegister(v)
		for _, value := range values {
			v.WithLabelValues(value) // 0, so that the first shows as an increase
		}
		return v
	}
	return &metrics{
		sealed:     counter("sealed_total", "AuditEvents that were recorded in the ledger and bear its receipt."),
		refused:    counter("refused_total", "AuditEvents that are no event, which the ledger says of them."),
		lost:       counter("lost_unsealed_total", "AuditEvents that went before they were sealed. What they said is in the ledger."),
		mirrored:   counter("mirrored_total", "Events of the ledger that AuditEvents were made of."),
		unmirrored: counter("unmirrored_total", "Events of the ledger that the API server takes in no form."),
		pruned:     counter("pruned_total", "AuditEvents that were deleted because they are beyond the window, or erased from the ledger."),
		copies: vector("copies_total", "AuditEvents that others made and that wear our annotations: faithful, restored from a backup, or false.",
			"faithful", "true", "restored", "false"),
		requests: vector("requests_total", "The operator's own requests that change AuditEvents, which are not recorded one by one.",
			"verb", "create", "patch", "delete"),
		unsealed: gauge("unsealed", "AuditEvents that bear no receipt yet."),
		lag:      gauge("mirror_lag_entries", "Entries from the newest event that was mirrored to the newest that is to be."),
		rung:     gauge("immutability_rung", "How AuditEvents are kept: 0 not, 1 by the definition's rule, 2 by policy, 3 and each bears its creator."),
		degraded: gauge("schema_degraded", "Fields of AuditEvents that the API server drops, because the definition is another's."),
	}
}

// A counting counts requests that change AuditEvents on their way.
type counting struct {
	next     http.RoundTripper
	requests *prometheus.CounterVec
}

// RoundTrip implements http.RoundTripper.
func (c *counting) RoundTrip(r *http.Request) (*http.Response, error) {
	verb := map[string]string{http.MethodPost: "create", http.MethodPatch: "patch", http.MethodDelete: "delete"}[r.Method]
	if verb != "" && strings.Contains(r.URL.Path, "/auditevents") && r.URL.Query().Get("dryRun") == "" {
		c.requests.WithLabelValues(verb).Inc()
	}
	return c.next.RoundTrip(r)
}
