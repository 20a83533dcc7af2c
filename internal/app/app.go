// Package app puts a server together: it alone knows all the parts.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/keyring"
	"github.com/graven-audit/graven/internal/kubeauth"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/listener"
	"github.com/graven-audit/graven/internal/rest"
	"github.com/graven-audit/graven/internal/settings"
	"github.com/graven-audit/graven/internal/witness"
	"github.com/graven-audit/graven/trail"
)

// An App is a server that listens.
type App struct {
	config   Config
	settings settings.Digests // of what was given
	log      *slog.Logger
	keys     *keyring.Keys
	ledger   *ledger.Ledger
	rest     *rest.Server
	http     *http.Server
	listener net.Listener
	plain    net.Listener // without TLS, where there is one beside it

	// stops are run by Stop, the last first.
	stops []stop
}

type stop struct {
	name string
	fn   func(context.Context) error
}

// New opens the ledger and starts to listen. Requests are answered once
// [App.Run] is called. progress, if not nil, is told how far recovering has
// come.
func New(ctx context.Context, c Config, version string, log *slog.Logger, progress func(done, total int64)) (*App, error) {
	given, err := settings.Of(&c, "data", "origin") // where it is, and what counts once
	if err == nil {
		err = c.complete()
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if c.ReadOnly {
		c.Witnesses = nil // there is nothing to cosign
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(c.MaxMemory / 4 * 3) // the rest is for what is not the heap's
	}
	a := &App{config: c, settings: given, log: log}
	if err := a.setup(ctx, version, progress); err != nil {
		return nil, errors.Join(err, a.Stop(context.WithoutCancel(ctx)))
	}
	return a, nil
}

func (a *App) setup(ctx context.Context, version string, progress func(done, total int64)) error {
	c := a.config
	if err := a.admit(); err != nil {
		return err
	}
	var err error
	if a.keys, err = a.openKeys(ctx); err != nil {
		return err
	}
	store, newest, err := a.openStore(ctx, progress)
	if err != nil {
		return err
	}
	if newest == nil && !a.keys.Unused {
		where := filepath.Join(c.Data, trail.LogDir)
		if c.Store != "" {
			where = "the database"
		}
		return fmt.Errorf("%s holds the key of the ledger %s but there is no entry: bring back %s; to begin another ledger, take another directory",
			c.Data, a.keys.Signer.Name(), where)
	}
	before := erasure.LastRecorded(ctx, store, newest)
	tokens, fresh, err := a.openTokens(ctx, store)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := newMetrics(registry, a, store)
	quorum, err := a.quorum(store, registry)
	if err != nil {
		return err
	}
	if err := quorum.Check(ctx, newest); err != nil {
		return err
	}
	config := ledger.Config{Store: store, Signer: a.keys.Signer, VerifierKey: a.keys.VerifierKey, Version: version, Observe: metrics.pool}
	if c.ReadOnly {
		config.ReadOnly = func(e *event.Event) {
			a.log.Info("not recorded", "event", e.EventType, "by", e.Actor.Name, "details", string(e.Details))
		}
	}
	if a.ledger, err = ledger.Open(ctx, config); err != nil {
		return err
	}
	a.onStop("ledger", func(context.Context) error { a.ledger.Close(); return nil })
	if c.Store != "" {
		a.background("refresh", a.refresh)
	}
	if err := a.markUsed(); err != nil {
		return err
	}
	if err := a.record(ctx, "LedgerStarted", event.Resource{}, map[string]any{"version": version, "size": a.ledger.State().Size()}); err != nil {
		return err
	}
	if err := a.recordSettings(ctx); err != nil {
		return err
	}
	a.onStop("farewell", func(ctx context.Context) error {
		return a.record(ctx, "LedgerStopped", event.Resource{}, map[string]any{"size": a.ledger.State().Size()})
	})
	if fresh {
		if err := a.makeFirstToken(ctx, tokens); err != nil {
			return err
		}
	}
	journal := ledger.NewJournal(a.ledger)
	a.onStop("journal", func(context.Context) error { return journal.Close() })

	rc := rest.Config{Ledger: a.ledger, Journal: journal, Store: store, Tokens: tokens, Holds: custody.New(a.ledger, journal, store, time.Now),
		AnonymousRole: c.AnonymousRole, PublicLog: c.Log.Public, StrictTypes: c.StrictTypes, MaxBody: c.MaxBody,
		Log: a.log, Metrics: rest.NewMetrics(registry), Key: a.keys.VerifierKey, Scratch: c.Data, Version: version}
	if !c.ReadOnly {
		rc.Signer = a.keys.Signer
	}
	if c.Kubernetes.Enabled {
		if rc.Cluster, err = kubeauth.New(c.Kubernetes, kubeauth.NewMetrics(registry)); err != nil {
			return ofKubernetes(err)
		}
	}
	if c.Spool.Directory != "" || c.DeadLetter != "" {
		if rc.Recorder, err = a.openSpool(ctx, journal, registry); err != nil {
			return err
		}
	}
	if len(c.Witnesses) > 0 {
		rc.Witnesses = quorum
		a.askWitnesses(quorum)
	}
	rc.Eraser = erasure.New(erasure.Config{Ledger: a.ledger, Journal: journal, Store: store, Holds: rc.Holds, Policies: c.Retention.policies,
		Confirmations: c.Erasure.Confirmations, Clock: erasure.NewSystemClock(), Newest: before,
		OnError: func(err error) { a.log.Error("what was recorded as erased is still there", "error", err) }})
	if err := a.keepRetention(ctx, rc.Eraser); err != nil {
		return err
	}
	rc.Rules, rc.Targets = c.Findings.Rules, c.Compliance.targets
	a.rest = rest.New(rc)
	a.inspect(&rc, registry)
	return a.listen()
}

// refreshEvery is how often what other servers append is looked for, so that
// streams tell of it. Questions look for themselves.
const refreshEvery = 250 * time.Millisecond

func (a *App) refresh(ctx context.Context) {
	every(ctx, refreshEvery, func() { _ = a.ledger.Refresh(ctx) }) // who records or asks is told
}

// quorum returns the witnesses of the configuration. Where there are none, it
// still knows what witnesses cosigned before.
func (a *App) quorum(store store, reg prometheus.Registerer) (*witness.Quorum, error) {
	var peers []witness.Peer
	for _, w := range a.config.Witnesses {
		peers = append(peers, witness.Peer{URL: w.URL, Key: w.key})
	}
	return witness.New(witness.Config{Peers: peers, Need: a.config.WitnessThreshold, Interval: a.config.WitnessInterval,
		Ledger: a.keys.Verifier, Tree: store, File: filepath.Join(a.config.Data, cosign.File), Log: a.log, Metrics: reg,
		Refused: func(ctx context.Context, r *witness.Refusal) error {
			return a.recordSurely(ctx, "WitnessRefused", event.Resource{Kind: "Witness", Name: r.Witness},
				map[string]any{"witness": r.Witness, "url": r.URL, "size": r.Size, "witnessSize": r.Held, "reason": r.Reason})
		}})
}

// askWitnesses has witnesses cosign what the ledger publishes, until the ledger
// is closed.
func (a *App) askWitnesses(q *witness.Quorum) {
	a.background("witnesses", func(ctx context.Context) {
		q.Run(ctx, func() (*trail.Checkpoint, <-chan struct{}) {
			s := a.ledger.State()
			return s.Checkpoint, s.Changed()
		})
	})
}

// listen opens the door.
func (a *App) listen() error {
	c := a.config
	a.http = &http.Server{Handler: a.rest, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		HTTP2:    &http.HTTP2Config{MaxConcurrentStreams: 100, MaxReceiveBufferPerConnection: 128 << 10, MaxReceiveBufferPerStream: 64 << 10},
		ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelWarn)}
	if c.TLSCert != "" {
		cert, err := listener.Certificate(c.TLSCert, c.TLSKey, func(err error) { a.log.Warn("the certificate stays as it was", "error", err) })
		if err != nil {
			return fmt.Errorf("tlsCert and tlsKey: %w", err)
		}
		a.http.TLSConfig = &tls.Config{GetCertificate: cert, MinVersion: tls.VersionTLS12,
			NextProtos: []string{"h2", "http/1.1"}} // said here, for the address without TLS may be served first
	}
	connections, err := c.MaxConnections, error(nil)
	if c.PlainListen != "" {
		a.http.Handler = listener.Apart(a.rest)
		connections -= c.MaxConnections / 4
		if a.plain, err = a.open(c.PlainListen, max(1, c.MaxConnections/4)); err != nil {
			return fmt.Errorf("plainListen: %w", err)
		}
	}
	if a.listener, err = a.open(c.Listen, connections); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	a.onStop("http", func(ctx context.Context) error {
		a.rest.Stop()
		err := a.http.Shutdown(ctx)
		if err != nil { // some requests take too long; what they stand on is about to go
			err = errors.Join(err, a.http.Close())
		}
		return err
	})
	return nil
}

// open listens on an address, up to so many connections.
func (a *App) open(address string, connections int) (net.Listener, error) {
	limited, err := listener.Open(address, connections)
	if err != nil {
		return nil, err
	}
	a.http.ConnState = limited.Changed
	a.onStop("listener", func(context.Context) error { return ignoreClosed(limited.Close()) })
	return limited, nil
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// admit refuses a directory that is not to be served, before anything in it is
// changed, and makes one for a new ledger.
func (a *App) admit() error {
	c := a.config
	if err := datadir.CheckFormat(c.Data); err != nil {
		return err
	}
	if c.ReadOnly && c.Store == "" {
		_, err := os.Stat(filepath.Join(c.Data, trail.TipFile))
		if err != nil {
			return fmt.Errorf("there is no ledger to be read: %w", err)
		}
		return nil
	}
	if err := datadir.CheckRecordable(c.Data); err != nil {
		return err
	}
	if c.Store == "" { // otherwise it may have moved into the database
		if err := datadir.CheckHere(c.Data); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// markUsed remembers that the ledger's key has signed something.
func (a *App) markUsed() error {
	if a.config.ReadOnly {
		return nil
	}
	return keyring.MarkUsed(a.config.Data)
}

// record records an event of the server's own life, about itself or a resource,
// if the ledger takes anything.
func (a *App) record(ctx context.Context, eventType string, about event.Resource, details map[string]any) error {
	err := a.recordSurely(ctx, eventType, about, details)
	if errors.Is(err, ledger.ErrStopped) || errors.Is(err, ledger.ErrFull) || errors.Is(err, ledger.ErrAway) {
		a.log.Error("could not record", "event", eventType, "error", err)
		return nil
	}
	return err
}

// recordSurely is record for what is tried again where it fails.
func (a *App) recordSurely(ctx context.Context, eventType string, about event.Resource, details map[string]any) error {
	e := ledger.OwnEvent(eventType, a.keys.Signer.Name(), time.Now())
	if about.Kind != "" {
		e.Resource = about
	}
	if err := e.SetDetails(details); err != nil {
		return err
	}
	return a.ledger.Own(ctx, e)
}

// Addr returns the address that the server listens on.
func (a *App) Addr() string { return a.listener.Addr().String() }

// URL returns the server's address for clients on this machine.
func (a *App) URL() string {
	scheme := "http"
	if a.config.TLSCert != "" {
		scheme = "https"
	}
	host, port, err := net.SplitHostPort(a.Addr())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		return scheme + "://" + net.JoinHostPort("127.0.0.1", port)
	}
	return scheme + "://" + a.Addr()
}

// Run answers requests until ctx ends or the ledger stops by itself, and then
// stops the server.
func (a *App) Run(ctx context.Context) error {
	served := make(chan error, 2)
	if a.plain != nil {
		go func() { served <- a.http.Serve(a.plain) }()
	}
	go func() {
		if a.config.TLSCert != "" {
			served <- a.http.ServeTLS(a.listener, "", "")
		} else {
			served <- a.http.Serve(a.listener)
		}
	}()
	var err error
	select {
	case <-ctx.Done():
	case <-a.ledger.Stopped():
		err = a.ledger.Err()
	case err = <-served:
	}
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.ShutdownTimeout)
	defer cancel()
	return errors.Join(err, a.Stop(stopCtx))
}

func (a *App) onStop(name string, fn func(context.Context) error) {
	a.stops = append(a.stops, stop{name, fn})
}

// Stop ends all parts, the last started first. It is safe to call twice.
func (a *App) Stop(ctx context.Context) error {
	var errs []error
	for i := len(a.stops) - 1; i >= 0; i-- {
		if err := a.stops[i].fn(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", a.stops[i].name, err))
		}
	}
	a.stops = nil
	return errors.Join(errs...)
}
