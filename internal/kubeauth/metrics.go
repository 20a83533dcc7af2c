package kubeauth

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graven-audit/graven/internal/access"
)

// Metrics of the questions that the API server is asked.
type Metrics struct {
	reviews *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	answers *prometheus.CounterVec
}

// NewMetrics makes the metrics in a registry.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		reviews: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "graven_kubernetes_reviews_total",
			Help: "Questions to the API server, for tokens and for access, by what it said."}, []string{"review", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "graven_kubernetes_review_duration_seconds",
			Help: "Time that the API server took for an answer.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 8)}, []string{"review"}),
		answers: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "graven_kubernetes_answers_total",
			Help: "Answers that were remembered, or had to be asked for."}, []string{"from"}),
	}
	for _, review := range []string{"token", "access"} {
		for _, result := range []string{"allowed", "denied", "failed"} {
			m.reviews.WithLabelValues(review, result)
		}
	}
	r.MustRegister(m.reviews, m.seconds, m.answers)
	return m
}

func (m *Metrics) review(review string, allowed bool, err error, took time.Duration) {
	result := "denied"
	if err != nil && !errors.Is(err, access.ErrToken) {
		result = "failed"
	} else if allowed {
		result = "allowed"
	}
	m.reviews.WithLabelValues(review, result).Inc()
	m.seconds.WithLabelValues(review).Observe(took.Seconds())
}

func (m *Metrics) asked(remembered bool) {
	from := "server"
	if remembered {
		from = "memory"
	}
	m.answers.WithLabelValues(from).Inc()
}
