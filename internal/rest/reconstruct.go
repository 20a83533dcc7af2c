package rest

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/fact"
	"github.com/graven-audit/graven/internal/narrative"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/reconstruct"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/snapshot"
	"github.com/graven-audit/graven/internal/verdict"
	"github.com/graven-audit/graven/trail"
)

// maxSubjects bounds the resources of an incident whose states are looked for.
const maxSubjects = 50

// A validation says what there is to know of a reconstruction, in Kubernaut's form.
type validation struct {
	IsValid      bool     `json:"is_valid"`
	Completeness int      `json:"completeness"` // in per cent
	Errors       []string `json:"errors"`
	Warnings     []string `json:"warnings"`
}

// A verified says that the events were verified before anything was made of them.
type verified struct {
	Events     int    `json:"events"`
	Checkpoint string `json:"checkpoint"`
}

// An unreadable is a state that could not be read.
type unreadable struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Index     int64  `json:"index"`
	Reason    string `json:"reason"`
}

// A built is what all reconstructions say.
type built struct {
	Validation      validation `json:"validation"`
	ReconstructedAt string     `json:"reconstructed_at"`
	CorrelationID   string     `json:"correlation_id,omitempty"`
	// At is the moment that was asked for; empty for the newest that is known.
	At         string                `json:"at,omitempty"`
	Verified   verified              `json:"verified"`
	Objects    []*reconstruct.Object `json:"objects"`
	Unreadable []unreadable          `json:"unreadable"`
	// Namespaces are those that the caller sees, if not all.
	Namespaces []string        `json:"namespaces,omitzero"`
	Erased     *search.Erasure `json:"erasedBelow,omitempty"`
}

// A material is what a reconstruction is made of: events that were verified, in the
// ledger's order.
type material struct {
	tellings []fact.Telling
	verified verified
	erased   *search.Erasure
}

// gather verifies and reads the events that a filter asks for and, for an incident, the
// states that were kept of its resources without saying of which incident they are.
func (s *Server) gather(c *call, f *search.Filter) (*material, error) {
	if err := s.take(c, work*maxIncidentBytes); err != nil {
		return nil, err
	}
	cp, err := s.state(c.ctx())
	if err == nil {
		err = s.derived(c.ctx(), cp.Size)
	}
	if err != nil {
		return nil, err
	}
	m := &material{verified: verified{Checkpoint: string(cp.Note)}}
	if m.erased, err = s.find.Erased(c.ctx(), &search.Filter{}); err != nil {
		return nil, err
	}
	r := reader{s: s, c: c, cp: cp, m: m, seen: map[int64]bool{}}
	if err := r.read(f); err != nil {
		return nil, err
	}
	if f.CorrelationID != "" {
		for _, of := range r.subjects {
			states := &search.Filter{Types: []string{fact.Snapshot}, Kind: of.Kind, Namespace: of.Namespace, Resource: of.Name, Scope: f.Scope}
			if err := r.read(states); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(m.tellings, func(a, b fact.Telling) int { return int(a.Index - b.Index) })
	return m, nil
}

// A reader reads material, each event once.
type reader struct {
	s        *Server
	c        *call
	cp       *trail.Checkpoint
	m        *material
	seen     map[int64]bool
	subjects []event.Resource
	bytes    int
}

// read verifies the events that a filter asks for, and takes them in.
func (r *reader) read(f *search.Filter) error {
	v, err := r.s.judge.Events(r.c.ctx(), r.cp, f, maxIncident, r.s.c.Now())
	switch {
	case errors.Is(err, verdict.ErrTooMany):
		return errTooMany
	case err != nil:
		return err
	case !v.IsValid:
		return broken(v)
	}
	return r.s.find.Each(r.c.ctx(), f, search.Range{End: r.cp.Size}, func(h search.Hit) error {
		if r.seen[h.Record.Index] {
			return nil
		}
		r.seen[h.Record.Index] = true
		if r.bytes += len(h.Record.Entry) + len(h.Record.Erasable); r.bytes > maxIncidentBytes || len(r.m.tellings) == maxIncident {
			return errTooMany
		}
		r.m.verified.Events++
		r.m.tellings = append(r.m.tellings, fact.Telling{Index: h.Record.Index, Event: h.Event, Erased: h.Record.Erasable == nil})
		of := h.Event.Resource
		of.APIVersion, of.UID = "", ""
		if of.Name != "" && len(r.subjects) < maxSubjects && !slices.Contains(r.subjects, of) {
			r.subjects = append(r.subjects, of)
		}
		return nil
	})
}

// broken refuses to make anything of events that are not as they were sealed, and says
// which.
func broken(v *verdict.Incident) error {
	p := problem.New(http.StatusUnprocessableEntity, "reconstruction/unprocessable", "The events are not as they were recorded", v.Message+": nothing is made of them")
	for _, t := range v.TamperedEvents[:min(len(v.TamperedEvents), 100)] {
		p.Errors = append(p.Errors, problem.Fault{Field: "entry " + itoa(t.Index), Reason: t.Message})
	}
	return p
}

// reconstruction reads what is asked for.
func (s *Server) reconstruction(c *call, also ...string) (*reconstruct.Question, error) {
	q := &reconstruct.Question{}
	err := c.params(func(name, value string) (bool, error) {
		switch {
		case name == "at":
			at, err := search.ParseTime(value, s.c.Now(), true)
			if err != nil {
				return true, problem.Param(name, err.Error())
			}
			q.At = at
		case name == "kind" && slices.Contains(also, name):
			if q.Kind = value; value == "" || len(value) > event.MaxString {
				return true, problem.Param(name, "1 to "+itoa(event.MaxString)+" bytes")
			}
		case name == "resource" && slices.Contains(also, name):
			parts := strings.Split(value, "/")
			if len(parts) != 3 || parts[0] == "" || parts[2] == "" || len(value) > event.MaxString {
				return true, problem.Param(name, "not KIND/NAMESPACE/NAME, as RemediationPlan/production/plan-1; the namespace may be empty")
			}
			q.Kind, q.Namespace, q.Name = parts[0], parts[1], parts[2]
		default:
			return false, nil
		}
		return true, nil
	})
	return q, err
}

// build reconstructs what is asked for.
func (s *Server) build(c *call, m *material, q *reconstruct.Question, correlationID string) (*built, error) {
	if m.erased != nil {
		q.Erased = m.erased.String()
	}
	objects, lost := reconstruct.Objects(m.tellings, q)
	b := &built{ReconstructedAt: event.FormatTime(s.c.Now()), CorrelationID: correlationID, Verified: m.verified, Objects: objects, Unreadable: []unreadable{},
		Namespaces: c.by.Namespaces, Erased: m.erased, Validation: validation{IsValid: true, Completeness: 100, Errors: []string{}, Warnings: []string{}}}
	if !q.At.IsZero() {
		b.At = event.FormatTime(q.At)
	}
	for _, l := range lost {
		b.Unreadable = append(b.Unreadable, unreadable{l.Resource.Kind, l.Resource.Namespace, l.Resource.Name, l.Index, l.Reason})
	}
	sum := 0
	for _, o := range objects {
		v := &b.Validation
		v.IsValid = v.IsValid && o.Valid
		sum += o.Completeness
		name := ""
		if len(objects) > 1 {
			name = o.Kind + "/" + o.Name + ": "
		}
		for _, e := range o.Errors {
			v.Errors = append(v.Errors, name+e)
		}
		for _, w := range o.Warnings {
			v.Warnings = append(v.Warnings, name+w)
		}
	}
	if len(objects) == 0 {
		return nil, s.nothing(m, q, lost)
	}
	b.Validation.Completeness = sum / len(objects)
	return b, nil
}

// nothing answers that there is nothing to reconstruct, and why.
func (s *Server) nothing(m *material, q *reconstruct.Question, lost []snapshot.Broken) error {
	why := "no event tells of a resource whose state was kept, or of a kind that is known"
	if !q.At.IsZero() && len(m.tellings) > 0 {
		first := m.tellings[0].Event.Timestamp
		for _, t := range m.tellings {
			if t.Event.Timestamp.Before(first) {
				first = t.Event.Timestamp
			}
		}
		if first.After(q.At) {
			why = "nothing of it had happened at " + event.FormatTime(q.At) + "; the first that is recorded is of " + event.FormatTime(first)
		}
	}
	for _, l := range lost {
		why += "; the state in entry " + itoa(l.Index) + " cannot be read: " + l.Reason
	}
	if q.Erased != "" {
		why += "; " + q.Erased
	}
	return problem.NotFound(why)
}

// correlation returns the incident that the path names.
func (c *call) correlation() (string, error) {
	id := c.r.PathValue("correlation_id")
	if id == "" || len(id) > event.MaxString {
		return "", problem.Param("correlation_id", "1 to "+itoa(event.MaxString)+" bytes")
	}
	return id, nil
}

// reconstructIncident answers POST /api/v1/audit/incidents/{correlation_id}/reconstruct.
func (s *Server) reconstructIncident(c *call) error {
	q, err := s.reconstruction(c, "kind", "resource")
	if err != nil {
		return err
	}
	id, err := c.correlation()
	if err != nil {
		return err
	}
	m, err := s.gather(c, &search.Filter{CorrelationID: id, Scope: c.by.Namespaces})
	if err != nil {
		return err
	}
	if len(m.tellings) == 0 {
		return s.noIncident(c)
	}
	return s.answerBuilt(c, m, q, id)
}

// reconstructResource answers POST /api/v1/audit/resources/reconstruct.
func (s *Server) reconstructResource(c *call) error {
	q, err := s.reconstruction(c, "resource")
	if err != nil {
		return err
	}
	if q.Name == "" {
		return problem.Param("resource", "required, as KIND/NAMESPACE/NAME")
	}
	m, err := s.gather(c, &search.Filter{Kind: q.Kind, Namespace: q.Namespace, Resource: q.Name, Scope: c.by.Namespaces})
	if err != nil {
		return err
	}
	return s.answerBuilt(c, m, q, "")
}

func (s *Server) answerBuilt(c *call, m *material, q *reconstruct.Question, id string) error {
	b, err := s.build(c, m, q, id)
	if err != nil {
		return err
	}
	text, err := reconstruct.YAML(b.Objects)
	if err != nil {
		return err
	}
	return c.document(http.StatusOK, struct {
		YAML string `json:"yaml"`
		*built
	}{string(text), b})
}

// The problems of remediation requests, as Kubernaut tells them apart.
func unfit(kind, title, detail string) *problem.Problem {
	return problem.New(http.StatusBadRequest, "reconstruction/"+kind, title, detail)
}

// leastComplete is the completeness, in per cent, below which a remediation request is
// none.
const leastComplete = 50

// reconstructRequest answers POST
// /api/v1/audit/remediation-requests/{correlation_id}/reconstruct, in Kubernaut's form.
func (s *Server) reconstructRequest(c *call) error {
	q, err := s.reconstruction(c)
	if err != nil {
		return err
	}
	id, err := c.correlation()
	if err != nil {
		return err
	}
	m, err := s.gather(c, &search.Filter{CorrelationID: id, Scope: c.by.Namespaces})
	if err != nil {
		return err
	}
	if len(m.tellings) == 0 {
		err := s.noIncident(c)
		var p *problem.Problem
		if errors.As(err, &p) {
			return problem.New(http.StatusNotFound, "audit/correlation-not-found", p.Title, p.Detail)
		}
		return err
	}
	whole, err := s.build(c, m, q, id)
	if err != nil {
		var p *problem.Problem
		if errors.As(err, &p) {
			return unfit("no-parseable-events", "No event tells of a remediation request", p.Detail)
		}
		return err
	}
	i := slices.IndexFunc(whole.Objects, func(o *reconstruct.Object) bool { return o.Kind == "RemediationRequest" && o.Name == id })
	if i < 0 {
		i = slices.IndexFunc(whole.Objects, func(o *reconstruct.Object) bool { return o.Kind == "RemediationRequest" })
	}
	if i < 0 {
		return unfit("no-parseable-events", "No event tells of a remediation request", "the events with this correlation id tell of other resources; reconstruct the incident")
	}
	rr := whole.Objects[i]
	if !known(rr, "spec.signalName") {
		return unfit("missing-gateway-event", "The signal is not recorded", "no gateway.signal.received or apifrontend.rr.created, and no state of the request, says what it was made for")
	}
	if rr.Completeness < leastComplete {
		p := unfit("incomplete-data", "Too little is recorded", itoa(int64(rr.Completeness))+" per cent of what a remediation request should have is known, and "+itoa(leastComplete)+" is the least")
		for _, u := range rr.Unknown {
			p.Errors = append(p.Errors, problem.Fault{Field: u.Path, Reason: u.Why})
		}
		return p
	}
	text, err := reconstruct.YAML([]*reconstruct.Object{rr})
	if err != nil {
		return err
	}
	related := slices.Delete(slices.Clone(whole.Objects), i, i+1)
	others, err := reconstruct.YAML(related)
	if err != nil {
		return err
	}
	whole.Validation = validation{rr.Valid, rr.Completeness, rr.Errors, rr.Warnings}
	story := narrative.New(id, until(m.tellings, q.At), c.by.Namespaces)
	return c.document(http.StatusOK, struct {
		YAML        string `json:"remediation_request_yaml"`
		RelatedYAML string `json:"related_yaml"`
		ClusterID   string `json:"cluster_id,omitempty"`
		*built
		Fields    []reconstruct.Field   `json:"fields"`
		Unknown   []reconstruct.Unknown `json:"unknown"`
		Approvals []narrative.Decided   `json:"approvals"`
		Effect    []narrative.Line      `json:"effectiveness"`
	}{string(text), string(others), rr.Cluster, whole, rr.Fields, rr.Unknown, story.Approvals, story.Effects})
}

// known reports whether a required member of an object is no placeholder.
func known(o *reconstruct.Object, path string) bool {
	return !slices.ContainsFunc(o.Unknown, func(u reconstruct.Unknown) bool { return u.Path == path })
}

// until returns what had happened at a moment; zero for all.
func until(tellings []fact.Telling, at time.Time) []fact.Telling {
	if at.IsZero() {
		return tellings
	}
	return slices.DeleteFunc(slices.Clone(tellings), func(t fact.Telling) bool { return t.Event.Timestamp.After(at) })
}
