// Package rest is the HTTP door: the API of the seed documents and what was
// added to it, for programs and people who hold a token.
package rest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/semaphore"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/answer"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/grant"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/upload"
	"github.com/graven-audit/graven/internal/verdict"
	"github.com/graven-audit/graven/report"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

// A Store is what the door reads from.
type Store interface {
	search.Index
	search.Reader
	finding.Sources
	tlog.HashReader // over all entries below the size that was waited for
	// Wait returns when hashes and index were derived from every entry below
	// size, or when ctx ends.
	Wait(ctx context.Context, size int64) error
	// Find sets indexes[i] to the index of the entry with ids[i], or to -1.
	Find(ctx context.Context, ids []event.ID, indexes []int64) error
	// Tile returns the hashes of a tile of a tree, as many as its width says.
	// Wrong ones are [search.ErrHashes].
	Tile(t tlog.Tile, of tlog.Tree) ([]byte, error)
	// Stored reads records as they stand on the disk, changed or not; the
	// store itself gives [search.ErrChanged] for one that was.
	Stored() search.Reader
	// Verify checks the whole ledger as it stands on the disk.
	Verify(ctx context.Context, o verify.Options) (*verify.Report, error)
}

// Witnesses cosign the ledger's checkpoints.
type Witnesses interface {
	// Cosigned is the newest checkpoint that enough of them have cosigned, with
	// their signatures; nil for none. It is never ahead of the ledger.
	Cosigned() *trail.Checkpoint
	// Shown is the checkpoint to show to those who ask for no particular one,
	// given the newest.
	Shown(newest *trail.Checkpoint) *trail.Checkpoint
	// Refusing are the names of those who hold that the ledger has forked.
	Refusing() []string
}

// A Recorder records events. Those that it keeps for later have a receipt that
// says so.
type Recorder interface {
	Append(ctx context.Context, by ledger.By, events []*event.Event) ([]ledger.Result, *trail.Checkpoint, error)
}

// A Cluster authenticates those who bear no token of Graven's own.
type Cluster interface {
	// Authenticate returns who bears a token, with their permissions; for need, also
	// where it holds in some namespaces only. The error is [access.ErrToken] if the
	// token is not valid; any other means that nobody can tell.
	Authenticate(ctx context.Context, token string, need access.Permission) (*access.Principal, error)
}

// Config of a Server. All fields without a default are required.
type Config struct {
	Ledger *ledger.Ledger
	// Recorder records what callers send; nil means Ledger.
	Recorder Recorder
	Journal  *ledger.Journal
	Store    Store
	Tokens   *access.Tokens
	// Cluster is nil outside a cluster.
	Cluster Cluster
	Holds   *custody.Keeper
	Eraser  *erasure.Eraser
	// Witnesses is nil where nobody is asked to cosign.
	Witnesses Witnesses
	// Targets are what is promised of incidents; nil means [report.Defaults].
	Targets []report.Target
	// Rules are those of findings that users added.
	Rules []finding.Rule
	// Signer signs evidence packages with the ledger's key; nil where nothing is
	// signed. Key is its public half, in text.
	Signer note.Signer
	Key    string
	// Scratch is a directory for evidence packages while they are made; empty means
	// [os.TempDir].
	Scratch string
	// Version is the program's.
	Version string
	// AnonymousRole is the role of calls without a token; empty refuses them.
	AnonymousRole access.Role
	// PublicLog says what /log/ serves without a token: "none" (the default),
	// "hashes" (checkpoint and hash tiles) or "entries" (everything).
	PublicLog string
	// StrictTypes refuses events of types outside the catalogue.
	StrictTypes bool
	// MaxBody bounds a body, after decompression, in bytes; 0 means 16 MiB.
	MaxBody int64
	// MaxBodies bounds all bodies held in memory at a time, and MaxWork what is
	// made of them, and answers that wait to be read; 0 means what
	// [Config.Memory] says. A principal has up to a quarter of each.
	MaxBodies, MaxWork int64
	// MaxExports bounds the exports and streams that run at a time; 0 means
	// 64. A principal has up to a quarter of them.
	MaxExports int64
	// BodyTimeout bounds how long a body may take, to which longer ones add as
	// [upload.Limits] says; 0 means 30 s.
	BodyTimeout time.Duration
	// WriteTimeout bounds how long a reader may take over 64 KiB of an
	// answer, as [answer.New] says; 0 means 1 min.
	WriteTimeout time.Duration
	Log          *slog.Logger
	Metrics      *Metrics
	Now          func() time.Time
}

// A Server answers HTTP requests. It implements http.Handler.
type Server struct {
	c       Config
	find    search.Finder
	judge   verdict.Judge
	holds   *custody.Keeper
	mux     *http.ServeMux
	bodies  upload.Limits
	work    *access.Quota // bytes that calls work with
	exports *access.Quota
	verify  *semaphore.Weighted
	eraser  *erasure.Eraser
	grants  *grant.Granter
	book    *finding.Book
	judging sync.Mutex
	// caughtUp is when readiness last found everything in the index, in Unix
	// nanoseconds.
	caughtUp atomic.Int64
	// stopping is closed when streams must end.
	stopping chan struct{}
	stop     sync.Once
}

// work is how many times its bytes a body or a record takes while it is worked
// with.
const work = 3

// Memory returns the memory that bodies and the work with them may take, in
// bytes.
func (c *Config) Memory() (bodies, working int64) {
	size := cmp.Or(c.MaxBody, 16<<20)
	return 4 * (size + upload.Window + 1<<20), max(4*work*size, 64<<20)
}

// New returns a server.
func New(c Config) *Server {
	if c.MaxBody == 0 {
		c.MaxBody = 16 << 20
	}
	bodies, work := c.Memory()
	c.MaxBodies, c.MaxWork = cmp.Or(c.MaxBodies, bodies), cmp.Or(c.MaxWork, work)
	if c.MaxExports == 0 {
		c.MaxExports = 64
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = time.Minute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Recorder == nil {
		c.Recorder = c.Ledger
	}
	present := search.Present{Reader: c.Store, Tombs: c.Holds}
	s := &Server{c: c, find: search.Finder{Index: c.Store, Reader: present, Tombs: c.Holds}, mux: http.NewServeMux(),
		bodies: upload.Limits{Size: c.MaxBody, Time: c.BodyTimeout, Memory: access.NewQuota(c.MaxBodies)},
		work:   access.NewQuota(c.MaxWork), exports: access.NewQuota(c.MaxExports), verify: semaphore.NewWeighted(1),
		holds: c.Holds, eraser: c.Eraser, stopping: make(chan struct{})}
	s.grants = &grant.Granter{Tokens: c.Tokens, Journal: c.Journal, Now: c.Now}
	s.book = &finding.Book{Find: &s.find, Journal: c.Journal, Now: c.Now}
	s.judge = verdict.Judge{Find: &s.find, Stored: c.Store.Stored(), Hashes: c.Store, Tombs: c.Holds}
	for _, r := range s.routes() {
		s.mux.Handle(r.pattern, s.route(r))
	}
	s.mux.Handle("/", s.route(route{pattern: "/", handle: s.nowhere}))
	return s
}

// nowhere answers what no route takes.
func (s *Server) nowhere(c *call) error {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
		other := c.r.Clone(c.ctx())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/" {
			allowed = append(allowed, method)
			if method == http.MethodGet {
				allowed = append(allowed, http.MethodHead)
			}
		}
	}
	if len(allowed) == 0 {
		return problem.NotFound("no such route; /openapi.json lists them")
	}
	c.w.Header().Set("Allow", strings.Join(allowed, ", "))
	return problem.New(http.StatusMethodNotAllowed, "method", "The method is not allowed here", "there is "+strings.Join(allowed, ", "))
}

// Stop ends streams, so that the HTTP server can shut down.
func (s *Server) Stop() { s.stop.Do(func() { close(s.stopping) }) }

// unread is how long a body that nobody reads may take.
const unread = 5 * time.Second

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Time{}) // that of the request before on this connection
	if r.ContentLength != 0 {
		// A body that no route reads must arrive in time, too, for net/http
		// waits for it before it answers.
		_ = rc.SetReadDeadline(time.Now().Add(min(unread, s.c.BodyTimeout)))
	}
	s.mux.ServeHTTP(w, r)
}

// A route is one method and path.
type route struct {
	pattern string
	// perm is what the caller needs; "" is for routes open to all.
	perm access.Permission
	// reads is set for routes whose use, by a principal, is recorded as
	// reading the ledger. Others record what they do themselves.
	reads  bool
	handle func(*call) error
}

// routes lists every route. openapi.json describes the same.
func (s *Server) routes() []route {
	return []route{
		{"GET /api/v1/audit", access.Read, true, s.list},
		{"GET /api/v1/audit/export", access.Export, false, s.export},
		{"POST /api/v1/audit/events", access.Record, false, s.record},
		{"POST /api/v1/audit/events/batch", access.Record, false, s.recordBatch},
		{"GET /api/v1/audit/events", access.Read, true, s.listFlat},
		{"GET /api/v1/audit/events/{id}", access.Read, true, plain(s.get)},
		{"GET /api/v1/audit/events/{id}/proof", access.Read, true, plain(s.proof)},
		{"POST /api/v1/audit/verify-chain", access.Verify, false, plain(s.verifyChain)},
		{"GET /api/v1/audit/verify", access.Verify, false, s.verifyLedger},
		{"GET /api/v1/audit/incidents/{correlation_id}", access.Read, true, s.incident},
		{"POST /api/v1/audit/incidents/{correlation_id}/reconstruct", access.Read, true, s.reconstructing(incidentAsItWas, "kind", "resource")},
		{"POST /api/v1/audit/remediation-requests/{correlation_id}/reconstruct", access.Read, true, s.reconstructing(requestAsItWas)},
		{"POST /api/v1/audit/resources/reconstruct", access.Read, true, s.reconstructing(resourceAsItWas, "resource")},
		{"GET /api/v1/audit/gaps", access.Read, true, s.gaps},
		{"GET /api/v1/compliance/report", access.Read, false, s.complianceReport},
		{"GET /api/v1/compliance/evidence", access.Export, false, s.evidence},
		{"GET /api/v1/compliance/frameworks", access.Read, false, plain(s.listFrameworks)},
		{"GET /api/v1/compliance/frameworks/{name}", access.Read, false, s.assess},
		{"GET /api/v1/findings", access.Read, true, s.findings},
		{"GET /api/v1/findings/rules", access.Read, false, plain(s.listRules)},
		{"GET /api/v1/findings/{id}", access.Read, true, plain(s.getFinding)},
		{"POST /api/v1/findings/{id}/acknowledge", access.Judge, false, plain(s.judgeFinding("acknowledge"))},
		{"POST /api/v1/findings/{id}/accept", access.Judge, false, plain(s.judgeFinding("accept"))},
		{"POST /api/v1/findings/{id}/resolve", access.Judge, false, plain(s.judgeFinding("resolve"))},
		{"POST /api/v1/findings/{id}/reopen", access.Judge, false, plain(s.judgeFinding("reopen"))},
		{"GET /api/v1/audit/legal-hold", access.Read, true, s.listHolds},
		{"POST /api/v1/audit/legal-hold", access.Hold, false, plain(s.placeHold)},
		{"DELETE /api/v1/audit/legal-hold", access.Hold, false, plain(s.releaseHold)},
		{"GET /api/v1/audit/legal-hold/{id}", access.Read, true, plain(s.getHold)},
		{"POST /api/v1/audit/legal-hold/{id}", access.Hold, false, plain(s.changeHold)},
		{"DELETE /api/v1/audit/legal-hold/{id}", access.Hold, false, plain(s.releaseHold)},
		{"GET /api/v1/retention/plan", access.Verify, true, plain(s.planRetention)},
		{"POST /api/v1/retention/run", access.Erase, false, plain(s.runRetention)},
		{"POST /api/v1/erasures/plan", access.Erase, true, plain(s.erase(true))},
		{"POST /api/v1/erasures", access.Erase, false, plain(s.erase(false))},
		{"POST /api/v1/erasures/{id}/confirm", access.Erase, false, plain(s.confirmErasure)},
		{"GET /api/v1/audit/stream", access.Read, true, s.stream},
		{"POST /api/v1/ingest/kube-audit", access.Record, false, s.ingestKubeAudit},
		{"POST /api/v1/ingest/kube-audit/{cluster}", access.Record, false, s.ingestKubeAudit},
		{"GET /api/v1/tokens", access.ManageToken, true, plain(s.listTokens)},
		{"POST /api/v1/tokens", access.ManageToken, false, plain(s.createToken)},
		{"DELETE /api/v1/tokens/{name}", access.ManageToken, false, plain(s.revokeToken)},
		{"GET /log/checkpoint", s.logPerm("hashes"), true, s.checkpoint},
		{"GET /log/tile/entries/{path...}", s.logPerm("entries"), true, s.logEntries},
		{"GET /log/tile/{path...}", s.logPerm("hashes"), true, s.logHashes},
		{"GET /metrics", access.Read, false, s.metrics},
		{"GET /openapi.json", access.Read, false, plain(s.openAPI)},
		{"GET /healthz", "", false, s.healthz},
		{"GET /readyz", "", false, s.readyz},
	}
}

// plain has a handler refuse a query string, for it asks nothing.
func plain(handle func(*call) error) func(*call) error {
	return func(c *call) error {
		if err := c.noParams(); err != nil {
			return err
		}
		return handle(c)
	}
}

// A call is one request on its way through a route.
type call struct {
	w    *answer.Writer
	raw  http.ResponseWriter // as net/http made it
	r    *http.Request
	by   *access.Principal // nil on open routes
	rc   *http.ResponseController
	name string // the route's pattern

	body, work *access.Held // memory, if any
}

// take has the call hold n bytes to work with, instead of what it held for that
// before, and waits for its turn.
func (s *Server) take(c *call, n int64) (err error) {
	if c.work != nil {
		c.work.Release()
	}
	who := source(c.r)
	if c.by != nil {
		who = c.by.Name
	}
	c.work, err = s.work.Wait(c.ctx(), who, n)
	return err
}

// settle gives back what the call holds beyond n bytes.
func (c *call) settle(n int) {
	if c.body != nil {
		c.body.Release()
		c.body = nil
	}
	if c.work != nil {
		c.work.Shrink(int64(n))
	}
}

func (c *call) ctx() context.Context { return c.r.Context() }

// recorder returns how the ledger names the caller. Who was not authenticated
// cannot be an event's authenticated actor, whatever the actor's name.
func (c *call) recorder() ledger.By {
	by := ledger.By{Principal: c.by.Name, Via: c.by.Via}
	if by.Via == access.ViaAnonymous {
		by.Attribution = event.AttributionAsserted
	}
	return by
}

// witness returns how the ledger names a caller who passes on what others did,
// as far as they may vouch for it. That an actor bears the caller's name is
// chance then.
func (c *call) witness() ledger.By {
	by := c.recorder()
	by.Attribution = event.AttributionAsserted
	if c.by.Attests {
		by.Attribution = event.AttributionAdmission
	}
	return by
}

// route wraps a handler in what all routes share.
func (s *Server) route(rt route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		rc := http.NewResponseController(w)
		sw := answer.New(w, s.c.WriteTimeout)
		c := &call{w: sw, raw: w, r: r, rc: rc, name: rt.pattern}
		h := sw.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		err := s.serve(c, rt)
		whole := err == nil || s.fail(c, err)
		if c.settle(0); c.work != nil {
			c.work.Release()
		}
		s.c.Metrics.request(rt.pattern, sw.Status, time.Since(began))
		if !whole {
			panic(http.ErrAbortHandler)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(s.c.WriteTimeout)) // for what is in net/http's buffers
	})
}

func (s *Server) serve(c *call, rt route) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if rt.perm != "" {
		if err := s.authorize(c, rt); err != nil {
			return err
		}
	}
	if rt.reads && c.by != nil {
		if err := s.c.Journal.Record(c.ctx(), ledger.Act{Type: "AuditRead", By: c.recorder(), Key: rt.pattern,
			Details: map[string]any{"route": rt.pattern}}); err != nil {
			return err
		}
	}
	return rt.handle(c)
}

// fail answers with a problem and reports whether it could. Where the answer
// has begun, or the caller has gone, the connection must be broken off, so that
// nobody takes a part for the whole or silence for a success.
func (s *Server) fail(c *call, err error) (answered bool) {
	if c.ctx().Err() != nil && errors.Is(err, context.Canceled) {
		c.w.Status = 499
		return false
	}
	p := problemOf(err, false)
	s.report(c, p)
	if c.w.Status != 0 {
		return false
	}
	p.Write(c.w)
	return true
}

// report logs what a problem does not tell the caller.
func (s *Server) report(c *call, p *problem.Problem) {
	if p.Cause != nil {
		s.c.Log.Error("request failed", "route", c.name, "status", p.Status, "error", p.Cause)
	}
}

// source returns the address that a request came from, without the port.
func source(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// state returns the ledger's state as of now.
func (s *Server) state(ctx context.Context) (*trail.Checkpoint, error) {
	if err := s.c.Ledger.Refresh(ctx); err != nil {
		return nil, err
	}
	if st := s.c.Ledger.State(); st != nil {
		return st.Checkpoint, nil
	}
	return nil, search.ErrNotReady
}

// cosigned returns the newest cosigned checkpoint, or one of no entries.
func (s *Server) cosigned() *trail.Checkpoint {
	if s.c.Witnesses != nil {
		if c := s.c.Witnesses.Cosigned(); c != nil {
			return c
		}
	}
	return &trail.Checkpoint{}
}

// derived waits until hashes and index cover the ledger of the given size.
func (s *Server) derived(ctx context.Context, size int64) error {
	return search.Await(ctx, size, s.c.Store.Wait)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
