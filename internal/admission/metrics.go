package admission

import "github.com/prometheus/client_golang/prometheus"

// Metrics count what is asked and answered.
type Metrics struct {
	recorded, refused, failed, lost *prometheus.CounterVec
	stray, gaps                     prometheus.Counter
	took                            prometheus.Histogram
}

// begin has what a policy counts begin with 0, so that the first shows as an increase.
func (m *Metrics) begin(policy string) {
	for _, v := range []*prometheus.CounterVec{m.recorded, m.refused, m.failed, m.lost} {
		v.WithLabelValues(policy)
	}
}

// NewMetrics returns metrics, which are registered unless reg is nil.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vector := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "graven_admission", Name: name, Help: help}, []string{"policy"})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: "graven_admission", Name: name, Help: help})
	}
	m := &Metrics{
		recorded: vector("recorded_total", "Events that were recorded of requests."),
		refused:  vector("refused_total", "Requests that were refused."),
		failed:   vector("failed_total", "Requests that a policy could not judge."),
		lost:     vector("lost_total", "Requests that could not be recorded."),
		stray:    counter("stray_total", "Questions that came by a wrong path, or were none."),
		gaps:     counter("gaps_total", "Times that the API server was found not to ask as it should."),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "graven_admission", Name: "seconds", Help: "How long it took to judge and record a request.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .05, .25, 1, 5}}),
	}
	if reg != nil {
		reg.MustRegister(m.recorded, m.refused, m.failed, m.lost, m.stray, m.gaps, m.took)
	}
	return m
}
