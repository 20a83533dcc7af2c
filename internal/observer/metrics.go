package observer

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what capture does.
type Metrics struct {
	recorded, failed *prometheus.CounterVec
	gaps             *prometheus.CounterVec
}

// begin has what a policy counts begin with 0, so that the first shows as an increase.
func (m *Metrics) begin(policy string) {
	m.recorded.WithLabelValues(policy)
	m.failed.WithLabelValues(policy)
}

// NewMetrics returns metrics, which are registered unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vector := func(name, help, label string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "graven_capture", Name: name, Help: help}, []string{label})
		if reg != nil {
			reg.MustRegister(v)
		}
		return v
	}
	return &Metrics{
		recorded: vector("recorded_total", "Events that capture policies have given.", "policy"),
		failed:   vector("failed_total", "States of which a capture policy could not say what there is to record.", "policy"),
		gaps:     vector("gaps_total", "Times that resources could not be followed without a gap.", "resource"),
	}
}
