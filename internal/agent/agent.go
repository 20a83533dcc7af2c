// Package agent takes events from programs on its machine, over HTTP on
// loopback or a Unix socket, and records them by way of a spool: what a program
// in any language does with one POST, that a Go program does with a
// [client.Recorder].
//
// Whoever may connect may record in the agent's name, as things that others did
// ("asserted"). So it listens nowhere else, and takes nothing from web pages.
package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/intake"
)

const (
	// maxBody bounds a request's body, in bytes, and maxEvents its events.
	maxBody   = 16 << 20
	maxEvents = 10_000
	// writeEvents and writeBytes bound what is written to the spool at a time.
	writeEvents = 1000
	writeBytes  = 1 << 20
	// maxRequests bounds those that are served at a time.
	maxRequests = 32
	// retryAfter is what whoever finds the spool full is asked to wait.
	retryAfter = "5"
)

// An Agent is a server of one recorder.
type Agent struct {
	recorder *client.Recorder
	log      *slog.Logger
	mux      *http.ServeMux
	slots    chan struct{}
}

// New returns an agent that records with a recorder, which should refuse when it
// is full.
func New(r *client.Recorder, log *slog.Logger) *Agent {
	a := &Agent{recorder: r, log: log, mux: http.NewServeMux(), slots: make(chan struct{}, maxRequests)}
	registry := prometheus.NewRegistry()
	registry.MustRegister(&collector{r})
	a.mux.HandleFunc("POST /api/v1/audit/events", a.one)
	a.mux.HandleFunc("POST /api/v1/audit/events/batch", a.batch)
	a.mux.HandleFunc("POST /api/v1/quarantine/retry", a.decide)
	a.mux.HandleFunc("POST /api/v1/quarantine/drop", a.decide)
	a.mux.HandleFunc("GET /healthz", a.health)
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return a
}

// Listen listens on an address of this machine's loopback, HOST:PORT, or on a
// Unix socket, unix:PATH, which is for its owner and group.
func Listen(address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		return listenUnix(path)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !isLocal(host) {
		return nil, fmt.Errorf("%s is not an address of this machine's loopback: whoever reaches the agent records in its name", address)
	}
	return net.Listen("tcp", address)
}

func listenUnix(path string) (net.Listener, error) {
	// One that a killed agent has left refuses connections.
	if conn, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("%s is in use", path), conn.Close())
	} else if info, statErr := os.Lstat(path); statErr == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("%s is there, and no socket", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o660); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func isLocal(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// Serve answers requests until ctx ends, and then those that it has begun.
func (a *Agent) Serve(ctx context.Context, l net.Listener) error {
	srv := &http.Server{Handler: a, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn)}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	err := srv.Shutdown(ending)
	if err != nil {
		err = errors.Join(err, srv.Close())
	}
	if served := <-served; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

// ServeHTTP implements http.Handler. A web page may send a browser here, by a
// name of its own for this machine; it gets nowhere.
func (a *Agent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	local := r.Context().Value(http.LocalAddrContextKey).(net.Addr).Network() == "unix"
	if !local && !isLocal(strings.Trim(host, "[]")) || r.Header.Get("Origin") != "" {
		refuse(w, client.Problem{Status: http.StatusForbidden, Title: "Not for web pages", Detail: "the Host must be this machine's loopback, and there must be no Origin"})
		return
	}
	a.mux.ServeHTTP(w, r)
}

func refuse(w http.ResponseWriter, p client.Problem) {
	p.Type = "about:blank"
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	answer(w, p.Status, "application/problem+json", p)
}

func answer(w http.ResponseWriter, status int, contentType string, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	w.Write(append(text, '\n')) // whoever does not read it, does not
}

// problemOf says why an event was not taken.
func problemOf(err error) client.Problem {
	var invalid event.Invalid
	var field *event.FieldError
	switch {
	case errors.Is(err, event.ErrReserved):
		return client.Problem{Status: http.StatusForbidden, Title: "Only the ledger itself may record this", Detail: err.Error()}
	case errors.As(err, &invalid):
		p := client.Problem{Status: http.StatusBadRequest, Title: "The event is not valid", Detail: err.Error()}
		for _, f := range invalid {
			p.Errors = append(p.Errors, client.Fault{Field: f.Field, Reason: f.Reason})
		}
		return p
	case errors.As(err, &field):
		return client.Problem{Status: http.StatusBadRequest, Title: "The event is not valid", Detail: err.Error(), Errors: []client.Fault{{Field: field.Field, Reason: field.Reason}}}
	case errors.Is(err, client.ErrTooLarge):
		return client.Problem{Status: http.StatusRequestEntityTooLarge, Title: "The event is too large for the spool", Detail: err.Error()}
	case errors.Is(err, client.ErrFull), errors.Is(err, client.ErrClosed):
		return client.Problem{Status: http.StatusServiceUnavailable, Title: "The event cannot be kept now", Detail: err.Error()}
	}
	return client.Problem{Status: http.StatusInternalServerError, Title: "The event cannot be kept", Detail: err.Error()}
}

// body reads a request's body; where there is none to be had it answers.
func (a *Agent) body(w http.ResponseWriter, r *http.Request) ([]byte, func(), bool) {
	switch media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(media) {
	case "application/json", "application/x-ndjson":
	default: // which a web page could send without asking
		refuse(w, client.Problem{Status: http.StatusUnsupportedMediaType, Title: "The body is of another kind", Detail: "Content-Type: application/json or application/x-ndjson"})
		return nil, nil, false
	}
	select {
	case a.slots <- struct{}{}:
	default:
		refuse(w, client.Problem{Status: http.StatusServiceUnavailable, Title: "Too many requests at a time", Detail: "try again"})
		return nil, nil, false
	}
	done := func() { <-a.slots }
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		refuse(w, client.Problem{Status: http.StatusRequestEntityTooLarge, Title: "The body is too large", Detail: fmt.Sprintf("the limit is %d bytes", large.Limit)})
	} else if err != nil {
		refuse(w, client.Problem{Status: http.StatusBadRequest, Title: "The body cannot be read", Detail: err.Error()})
	}
	if err != nil {
		done()
		return nil, nil, false
	}
	return data, done, true
}

// A receipt says that an event is on this machine's disk and will be delivered.
type receipt struct {
	Position int             `json:"position"`
	ID       string          `json:"id,omitempty"`
	Name     string          `json:"name,omitempty"`
	Spooled  bool            `json:"spooled"`
	Error    *client.Problem `json:"error,omitempty"`
}

// refused is the receipt of an event that was not taken.
func refused(position int, err error) receipt {
	p := problemOf(err)
	p.Type = "about:blank"
	return receipt{Position: position, Error: &p}
}

// take records events in either form, in as few writes as possible. Each is
// taken or refused by itself; where there was no room for some, those behind
// them are not tried.
func (a *Agent) take(ctx context.Context, events [][]byte) []receipt {
	receipts := make([]receipt, len(events))
	for i := 0; i < len(events); {
		var good []*event.Event
		var where []int // of each
		for size := 0; i < len(events) && len(good) < writeEvents && size < writeBytes; i++ {
			size += len(events[i])
			e, _, err := intake.Native(events[i])
			if err != nil {
				receipts[i] = refused(i, err)
				continue
			}
			good, where = append(good, e), append(where, i)
		}
		if err := a.record(ctx, receipts, good, where); err != nil {
			for ; i < len(events); i++ {
				receipts[i] = refused(i, err)
			}
		}
	}
	return receipts
}

// record records events with one write if they are good and go into the spool
// together, and says at where what became of each. The error means that the
// spool takes nothing.
func (a *Agent) record(ctx context.Context, receipts []receipt, events []*event.Event, where []int) error {
	err := a.recorder.RecordMany(ctx, events...)
	var wrong client.EventErrors
	switch half := len(events) / 2; {
	case err == nil:
		for k, e := range events {
			receipts[where[k]] = receipt{Position: where[k], ID: e.ID.String(), Name: e.Name, Spooled: true}
		}
		return nil
	case errors.As(err, &wrong):
		var good []*event.Event
		var there []int
		for k, e := range events {
			if len(wrong) > 0 && wrong[0].Index == k {
				receipts[where[k]] = refused(where[k], wrong[0].Err)
				wrong = wrong[1:]
				continue
			}
			good, there = append(good, e), append(there, where[k])
		}
		return a.record(ctx, receipts, good, there)
	case errors.Is(err, client.ErrTooLarge) && half > 0:
		if err = a.record(ctx, receipts, events[:half], where[:half]); err == nil {
			return a.record(ctx, receipts, events[half:], where[half:])
		}
		where = where[half:]
	}
	for _, position := range where {
		receipts[position] = refused(position, err)
	}
	if errors.Is(err, client.ErrTooLarge) {
		return nil // others may not be
	}
	return err
}

func (a *Agent) one(w http.ResponseWriter, r *http.Request) {
	data, done, ok := a.body(w, r)
	if !ok {
		return
	}
	defer done()
	taken := a.take(r.Context(), [][]byte{data})[0]
	if taken.Error != nil {
		refuse(w, *taken.Error)
		return
	}
	answer(w, http.StatusAccepted, "application/json", taken)
}

// batch takes a JSON array or NDJSON.
func (a *Agent) batch(w http.ResponseWriter, r *http.Request) {
	data, done, ok := a.body(w, r)
	if !ok {
		return
	}
	defer done()
	events, err := intake.Batch(r.Header.Get("Content-Type"), data, maxEvents)
	if errors.Is(err, intake.ErrTooMany) {
		err = fmt.Errorf("%w, the limit is %d", err, maxEvents)
	}
	if err != nil {
		refuse(w, client.Problem{Status: http.StatusBadRequest, Title: "The body is not a list of events", Detail: err.Error()})
		return
	}
	items := a.take(r.Context(), events)
	if p := items[0].Error; p != nil && p.Status == http.StatusServiceUnavailable {
		refuse(w, *p) // nothing was taken
		return
	}
	answer(w, http.StatusAccepted, "application/json", map[string]any{"items": items})
}

func (a *Agent) health(w http.ResponseWriter, _ *http.Request) {
	s := a.recorder.Stats()
	answer(w, http.StatusOK, "application/json", map[string]any{"pending": s.Pending, "bytes": s.Bytes, "maxBytes": s.MaxBytes,
		"delivered": s.Delivered, "quarantined": s.Quarantined})
}

// A collector is the recorder's counts as metrics.
type collector struct{ recorder *client.Recorder }

var counts = []struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*client.Stats) int64
}{
	{metric("recorded_total", "Events that were taken."), prometheus.CounterValue, func(s *client.Stats) int64 { return s.Recorded }},
	{metric("delivered_total", "Events that the server has acknowledged."), prometheus.CounterValue, func(s *client.Stats) int64 { return s.Delivered }},
	{metric("duplicates_total", "Of those, what it had before."), prometheus.CounterValue, func(s *client.Stats) int64 { return s.Duplicates }},
	{metric("quarantined_total", "Events that were refused for good, or damaged."), prometheus.CounterValue, func(s *client.Stats) int64 { return s.Quarantined }},
	{metric("refused_total", "Events that were not taken for want of room."), prometheus.CounterValue, func(s *client.Stats) int64 { return s.Refused }},
	{metric("retries_total", "Attempts to deliver that failed."), prometheus.CounterValue, func(s *client.Stats) int64 { return s.Retries }},
	{metric("pending", "Events in the spool."), prometheus.GaugeValue, func(s *client.Stats) int64 { return s.Pending }},
	{metric("spool_bytes", "Bytes of the spool."), prometheus.GaugeValue, func(s *client.Stats) int64 { return s.Bytes }},
	{metric("spool_max_bytes", "Bytes that the spool may have."), prometheus.GaugeValue, func(s *client.Stats) int64 { return s.MaxBytes }},
}

func metric(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("graven_agent_"+name, help, nil, nil)
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range counts {
		ch <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.recorder.Stats()
	for _, m := range counts {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, float64(m.value(&s)))
	}
}
