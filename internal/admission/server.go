package admission

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

// A Sender takes events. It has all of them, durably, once it returns nil.
type Sender interface {
	RecordMany(ctx context.Context, events ...*event.Event) error
}

// A Check says what is wrong with an object, as JSON, that is to take the place of an
// old one; nil for nothing.
type Check func(object, old []byte) error

// Config of a Server. Kept, Ledger, Key, Secrets and Stands are required.
type Config struct {
	// Kept takes events on the operator's own disk, and Ledger in the ledger itself,
	// for policies that refuse what it does not have.
	Kept, Ledger Sender
	Cluster      string
	// Key is that of digests which stand in the place of credentials.
	Key []byte
	// Secrets returns the words of which one begins a good path. Renew, if not nil, has it
	// look for new ones: another operator may have registered one.
	Secrets func() []string
	Renew   func(ctx context.Context) error
	// Checks are what policies refuse beside what they require, by their names.
	Checks map[string]Check
	// Stands reports whether the API server has a policy for admission of that name. It
	// is asked about those that were not set, which may be gone, or be yet to be set.
	Stands  func(ctx context.Context, policy string) (bool, error)
	Metrics *Metrics
	Log     *slog.Logger
	Now     func() time.Time
}

// A Server answers the API server's questions by policies. Its handler serves
// /{secret}/{policy}, and takes admission.k8s.io/v1 AdmissionReviews.
type Server struct {
	c Config

	mu       sync.Mutex
	programs map[string]*capture.Program // nil before they were set
	changed  chan struct{}               // closed when they are set
	renewed  time.Time                   // when it was looked for new words
	// recent are requests that were recorded, by uid, so that one that the API server
	// asks about again is recorded once.
	recent, before map[string]bool
	outcomes       map[string]Outcome
}

// New returns a Server without policies.
func New(c Config) *Server {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Server{c: c, changed: make(chan struct{}), recent: map[string]bool{}, outcomes: map[string]Outcome{}}
}

// Set has the policies applied that are for admission.
func (s *Server) Set(programs []*capture.Program) {
	byName := map[string]*capture.Program{}
	for _, p := range programs {
		if p.Policy.At == capture.Admission {
			byName[p.Policy.Name] = p
			s.c.Metrics.begin(p.Policy.Name)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.programs = byName
	close(s.changed)
	s.changed = make(chan struct{})
}

// program returns a policy; nil for one that is gone. It waits for one that stands until
// it is set.
func (s *Server) program(ctx context.Context, name string) (*capture.Program, error) {
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	for {
		s.mu.Lock()
		programs, changed := s.programs, s.changed
		s.mu.Unlock()
		if p := programs[name]; p != nil {
			return p, nil
		}
		if programs != nil {
			if stands, err := s.c.Stands(ctx, name); err == nil && !stands {
				return nil, nil
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("the policy %.253q is not applied yet", name)
		}
	}
}

const (
	// maxReview bounds a question, in bytes: an object of 3 MiB, as it was and as it is
	// to be, is more than etcd takes.
	maxReview = 8 << 20
	// maxRecent bounds the requests that are remembered.
	maxRecent = 10_000
	// maxLedger bounds how long somebody waits for the ledger.
	maxLedger = 5 * time.Second
	// maxSpool bounds how long somebody waits for room on the operator's disk.
	maxSpool = 500 * time.Millisecond
	// maxWait bounds how long somebody waits for a policy.
	maxWait = 3 * time.Second
)

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	secret, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if !s.knows(secret) && !(s.renew(r.Context()) && s.knows(secret)) {
		s.c.Metrics.stray.Inc()
		http.NotFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "POST an AdmissionReview", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxReview))
	if err != nil {
		http.Error(w, "read the AdmissionReview: "+err.Error(), http.StatusRequestEntityTooLarge)
		return
	}
	request, err := read(body)
	if err != nil {
		s.c.Metrics.stray.Inc()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var program *capture.Program
	if name != probeName {
		program, err = s.program(r.Context(), name)
	} else if s.Programs() == nil {
		err = errors.New("the policies are not known yet")
	}
	if err != nil {
		s.c.Log.Warn("a request is not judged", "error", err)
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	answer := &admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Response: &admissionv1.AdmissionResponse{UID: request.UID, Allowed: true}}
	if name == probeName {
		answer.Response.Warnings = []string{probed}
	}
	if program != nil { // else it is gone, and asks for nothing
		began := time.Now()
		s.judge(r.Context(), program, request, answer.Response)
		s.c.Metrics.took.Observe(time.Since(began).Seconds())
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		s.c.Log.Warn("answer the API server", "error", err)
	}
}

// renewPause is between two looks for new words, at least: anybody may ask with a wrong one.
const renewPause = time.Second

// renew looks for new words, unless that was done just now.
func (s *Server) renew(ctx context.Context) bool {
	s.mu.Lock()
	due := s.c.Renew != nil && s.c.Now().Sub(s.renewed) >= renewPause
	if due {
		s.renewed = s.c.Now()
	}
	s.mu.Unlock()
	if !due {
		return false
	}
	if err := s.c.Renew(ctx); err != nil {
		s.c.Log.Warn("look for the words that begin a good path", "error", err)
		return false
	}
	return true
}

// knows reports whether a word begins a good path.
func (s *Server) knows(secret string) bool {
	known := 0
	for _, good := range s.c.Secrets() {
		known |= subtle.ConstantTimeCompare([]byte(secret), []byte(good))
	}
	return known == 1
}

// read reads the request of an AdmissionReview.
func read(body []byte) (*admissionv1.AdmissionRequest, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, fmt.Errorf("read the AdmissionReview: %w", err)
	}
	switch {
	case review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview":
		return nil, fmt.Errorf("apiVersion, kind: %.40q, %.40q is no AdmissionReview of admission.k8s.io/v1", review.APIVersion, review.Kind)
	case review.Request == nil || review.Request.UID == "":
		return nil, errors.New("request.uid: required")
	}
	return review.Request, nil
}

// judge decides on a request, and records it.
func (s *Server) judge(ctx context.Context, p *capture.Program, r *admissionv1.AdmissionRequest, answer *admissionv1.AdmissionResponse) {
	in, err := s.input(r)
	if err != nil {
		s.deny(p, answer, fmt.Sprintf("graven: the policy %s cannot read the request: %v", p.Policy.Name, err), http.StatusBadRequest)
		return
	}
	if !p.Policy.Match.Matches(kindOf(r), in.Operation, r.Namespace, nameOf(r, in)) {
		return
	}
	words, err := p.Refuses(ctx, in)
	if check := s.c.Checks[p.Policy.Name]; check != nil && len(r.Object.Raw) > 0 {
		if wrong := check(r.Object.Raw, r.OldObject.Raw); wrong != nil {
			words = wrong.Error()
		}
	}
	var events []*event.Event
	if err == nil && words == "" {
		events, err = p.Events(ctx, in)
		err = errors.Join(err, s.complete(events))
	}
	if err != nil {
		s.count(p.Policy.Name, 0, err)
		s.c.Metrics.failed.WithLabelValues(p.Policy.Name).Inc()
		s.c.Log.Warn("a capture policy has failed on a request", "policy", p.Policy.Name, "error", err)
		if p.Policy.Refusing() {
			words = fmt.Sprintf("the policy %s cannot be applied: %v", p.Policy.Name, err)
		} else {
			events = append(slices.DeleteFunc(events, s.unfit), p.Failed(in, err))
		}
	}
	if words != "" {
		answer.Allowed = false
		answer.Result = &metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "graven: " + words}
		s.c.Metrics.refused.WithLabelValues(p.Policy.Name).Inc()
		events = []*event.Event{p.Refused(in, words)}
	}
	if err := s.complete(events); err != nil { // they are made of the request alone
		s.c.Log.Error("a request is not recorded", "policy", p.Policy.Name, "error", err)
		s.deny(p, answer, "graven: the request cannot be recorded: "+err.Error(), http.StatusBadRequest)
		return
	}
	if r.DryRun != nil && *r.DryRun || !s.fresh(string(r.UID)+"/"+p.Policy.Name) {
		return
	}
	err = s.record(ctx, p, events)
	if err == nil {
		answer.AuditAnnotations = annotations(events)
	}
	if err != nil {
		s.forget(string(r.UID) + "/" + p.Policy.Name)
		s.c.Metrics.lost.WithLabelValues(p.Policy.Name).Inc()
		s.c.Log.Error("a request is not recorded", "policy", p.Policy.Name, "error", err)
		if answer.Allowed && p.Policy.OnFailure == capture.Refuse {
			s.deny(p, answer, "graven: the request cannot be recorded, and the policy "+p.Policy.Name+" refuses what is not; try again", http.StatusServiceUnavailable)
		}
	}
}

// annotations has the API server's audit log name what was recorded of a request.
func annotations(events []*event.Event) map[string]string {
	var ids []string
	for _, e := range events {
		ids = append(ids, e.ID.String())
	}
	if ids == nil {
		return nil
	}
	return map[string]string{capture.DetailIntent: strings.Join(ids, " ")}
}

func (s *Server) deny(p *capture.Program, answer *admissionv1.AdmissionResponse, words string, code int32) {
	s.c.Metrics.refused.WithLabelValues(p.Policy.Name).Inc()
	answer.Allowed = false
	answer.Result = &metav1.Status{Code: code, Message: words}
}

// complete fills in what events leave out, and says what keeps a ledger from taking them.
func (s *Server) complete(events []*event.Event) error {
	now := s.c.Now()
	var all []error
	for _, e := range events {
		e.ClampTimestamp(now)
		e.Complete(now)
		all = append(all, fit(e, now))
	}
	return errors.Join(all...)
}

func fit(e *event.Event, now time.Time) error { return errors.Join(e.CheckReserved(), e.Validate(now)) }

// unfit reports whether a ledger would not take an event.
func (s *Server) unfit(e *event.Event) bool { return fit(e, s.c.Now()) != nil }

// record makes events durable: in the ledger, where the policy asks for that.
func (s *Server) record(ctx context.Context, p *capture.Program, events []*event.Event) error {
	if len(events) == 0 {
		return nil
	}
	to, most := s.c.Kept, maxSpool
	if p.Policy.OnFailure == capture.Refuse {
		to, most = s.c.Ledger, maxLedger
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if err := to.RecordMany(ctx, events...); err != nil {
		return err
	}
	s.count(p.Policy.Name, len(events), nil)
	s.c.Metrics.recorded.WithLabelValues(p.Policy.Name).Add(float64(len(events)))
	return nil
}

// input returns what policies see of a request, without credentials.
func (s *Server) input(r *admissionv1.AdmissionRequest) (*capture.Input, error) {
	object, err := decoded(r.Object.Raw)
	if err != nil {
		return nil, fmt.Errorf("object: %w", err)
	}
	old, err := decoded(r.OldObject.Raw)
	if err != nil {
		return nil, fmt.Errorf("oldObject: %w", err)
	}
	options, err := decoded(r.Options.Raw)
	if err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	groups := make([]any, len(r.UserInfo.Groups))
	for i, g := range r.UserInfo.Groups {
		groups[i] = g
	}
	extra := map[string]any{}
	for name, values := range r.UserInfo.Extra {
		list := make([]any, len(values))
		for i, v := range values {
			list[i] = v
		}
		extra[name] = list
	}
	in := &capture.Input{Object: capture.Clean(object, s.c.Key), Old: capture.Clean(old, s.c.Key), Operation: string(r.Operation), Cluster: s.c.Cluster, Now: s.c.Now(),
		Request: map[string]any{"uid": string(r.UID), "name": r.Name, "namespace": r.Namespace, "subResource": r.SubResource, "dryRun": r.DryRun != nil && *r.DryRun,
			"resource": map[string]any{"group": r.Resource.Group, "version": r.Resource.Version, "resource": r.Resource.Resource}, "options": options,
			"userInfo": map[string]any{"username": r.UserInfo.Username, "uid": r.UserInfo.UID, "groups": groups, "extra": extra}}}
	return in, nil
}

// decoded returns an object; nil for none.
func decoded(text []byte) (map[string]any, error) {
	if len(text) == 0 || string(text) == "null" {
		return nil, nil
	}
	o := map[string]any{}
	return o, utiljson.Unmarshal(text, &o)
}

func kindOf(r *admissionv1.AdmissionRequest) capture.Resource {
	name := r.Resource.Resource
	if r.SubResource != "" {
		name += "/" + r.SubResource
	}
	return capture.Resource{Group: r.Resource.Group, Version: r.Resource.Version, Resource: name}
}

// nameOf returns the name of what a request is about, which stands in the object alone
// where many are deleted by one.
func nameOf(r *admissionv1.AdmissionRequest, in *capture.Input) string {
	for _, o := range []map[string]any{in.Old, in.Object} {
		meta, _ := o["metadata"].(map[string]any)
		if name, _ := meta["name"].(string); name != "" && r.Name == "" {
			return name
		}
	}
	return r.Name
}

// fresh reports whether a request was not recorded yet, and remembers it.
func (s *Server) fresh(request string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent[request] || s.before[request] {
		return false
	}
	if len(s.recent) >= maxRecent {
		s.before, s.recent = s.recent, map[string]bool{}
	}
	s.recent[request] = true
	return true
}

func (s *Server) forget(request string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.recent, request)
	delete(s.before, request)
}

// An Outcome is what came of a policy since the start: how many events it gave, and
// why it failed the last time that it did, and when.
type Outcome struct {
	Recorded int64
	Failure  error
	Failed   time.Time
}

// Outcome returns what came of a policy.
func (s *Server) Outcome(policy string) Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outcomes[policy]
}

// count remembers what came of a policy.
func (s *Server) count(policy string, events int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.outcomes[policy]
	if o.Recorded += int64(events); err != nil {
		o.Failure, o.Failed = err, s.c.Now()
	}
	s.outcomes[policy] = o
}

// Programs returns the policies that are applied, by name; nil before they were set.
func (s *Server) Programs() map[string]*capture.Program {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.programs)
}
