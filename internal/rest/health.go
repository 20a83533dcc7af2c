package rest

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// healthz answers GET /healthz: the process lives.
func (s *Server) healthz(c *call) error {
	return c.json(http.StatusOK, []byte(`{"status":"ok"}`+"\n"))
}

// caughtUpFor is how long a server stays ready after all that was recorded could
// be found. Under load it takes a moment; were that to count, all replicas would
// be taken from their clients at once, when they have most to do.
const caughtUpFor = 10 * time.Second

// readyz answers GET /readyz: events can be recorded, and were found lately.
func (s *Server) readyz(c *call) error {
	if err := s.c.Ledger.Err(); err != nil {
		return err
	}
	cp, err := s.state(c.ctx())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.ctx(), time.Second)
	defer cancel()
	now := s.c.Now()
	if err := s.derived(ctx, cp.Size); err == nil {
		s.caughtUp.Store(now.UnixNano())
	} else if !errors.Is(err, context.DeadlineExceeded) || now.Sub(time.Unix(0, s.caughtUp.Load())) > caughtUpFor {
		return err
	}
	answer := fmt.Appendf(nil, `{"status":"ready","size":%d`, cp.Size)
	if s.c.Ledger.ReadOnly() {
		answer = append(answer, `,"readOnly":true`...)
	}
	if s.c.Witnesses != nil {
		refusing, _ := json.Marshal(s.c.Witnesses.Refusing()) // strings
		answer = fmt.Appendf(answer, `,"witnessed":%d,"refusing":%s`, s.cosigned().Size, refusing)
	}
	return c.json(http.StatusOK, append(answer, '}', '\n'))
}

//go:embed openapi.json
var openAPI []byte

// openAPI answers GET /openapi.json.
func (s *Server) openAPI(c *call) error {
	return c.json(http.StatusOK, openAPI)
}

// Metrics of the HTTP door.
type Metrics struct {
	gatherer prometheus.Gatherer
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

// NewMetrics makes the door's metrics in a registry, whose metrics, all of
// them, GET /metrics serves.
func NewMetrics(reg *prometheus.Registry) *Metrics {
	m := &Metrics{
		gatherer: reg,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "graven_http_requests_total",
			Help: "HTTP requests by route and status."}, []string{"route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "graven_http_request_duration_seconds",
			Help: "Time to answer HTTP requests, by route.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9)}, []string{"route"}),
	}
	reg.MustRegister(m.requests, m.duration)
	return m
}

func (m *Metrics) request(route string, status int, took time.Duration) {
	if m == nil {
		return
	}
	m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}

// metrics answers GET /metrics.
func (s *Server) metrics(c *call) error {
	if err := s.unscoped(c); err != nil {
		return err
	}
	if err := s.take(c, small); err != nil {
		return err
	}
	promhttp.HandlerFor(s.c.Metrics.gatherer, promhttp.HandlerOpts{}).ServeHTTP(c.w, c.r)
	return nil
}
