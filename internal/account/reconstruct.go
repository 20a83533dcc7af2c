package account

import (
	"cmp"
	"context"
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
func (t *Teller) gather(ctx context.Context, cp *trail.Checkpoint, f *search.Filter) (*material, error) {
	m := &material{verified: verified{Checkpoint: string(cp.Note)}}
	var err error
	if m.erased, err = t.Find.Erased(ctx, &search.Filter{}); err != nil {
		return nil, err
	}
	r := reader{t: t, cp: cp, m: m, seen: map[int64]bool{}}
	if err := r.read(ctx, f); err != nil {
		return nil, err
	}
	if f.CorrelationID != "" {
		for _, of := range r.subjects {
			states := &search.Filter{Types: []string{fact.Snapshot}, Kind: of.Kind, Namespace: of.Namespace, Resource: of.Name, Scope: f.Scope}
			if err := r.read(ctx, states); err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(m.tellings, func(a, b fact.Telling) int { return cmp.Compare(a.Index, b.Index) })
	return m, nil
}

// A reader reads material, each event once.
type reader struct {
	t        *Teller
	cp       *trail.Checkpoint
	m        *material
	seen     map[int64]bool
	subjects []event.Resource
	bytes    int
}

// read verifies the events that a filter asks for, and takes them in.
func (r *reader) read(ctx context.Context, f *search.Filter) error {
	v, err := r.t.Judge.Events(ctx, r.cp, f, MaxEvents, r.t.Now())
	switch {
	case errors.Is(err, verdict.ErrTooMany):
		return ErrTooMany
	case err != nil:
		return err
	case !v.IsValid:
		return broken(v)
	}
	return r.t.Find.Each(ctx, f, search.Range{End: r.cp.Size}, func(h search.Hit) error {
		if r.seen[h.Record.Index] {
			return nil
		}
		r.seen[h.Record.Index] = true
		if r.bytes += len(h.Record.Entry) + len(h.Record.Erasable); r.bytes > MaxBytes || len(r.m.tellings) == MaxEvents {
			return ErrTooMany
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
		p.Errors = append(p.Errors, problem.Fault{Field: "entry " + str(t.Index), Reason: t.Message})
	}
	return p
}

// ParseQuestion reads what is to be reconstructed; also are the parameters that there
// are beside the moment.
func ParseQuestion(params Params, now time.Time, also ...string) (*reconstruct.Question, error) {
	q := &reconstruct.Question{}
	err := params(func(name, value string) (bool, error) {
		switch {
		case name == "at":
			at, err := search.ParseTime(value, now, true)
			if err != nil {
				return true, problem.Param(name, err.Error())
			}
			q.At = at
		case name == "kind" && slices.Contains(also, name):
			if q.Kind = value; value == "" || len(value) > event.MaxString {
				return true, problem.Param(name, "1 to "+str(event.MaxString)+" bytes")
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
func (t *Teller) build(m *material, q *reconstruct.Question, correlationID string, namespaces []string) (*built, error) {
	if m.erased != nil {
		q.Erased = m.erased.String()
	}
	objects, lost := reconstruct.Objects(m.tellings, q)
	b := &built{ReconstructedAt: event.FormatTime(t.Now()), CorrelationID: correlationID, Verified: m.verified, Objects: objects, Unreadable: []unreadable{},
		Namespaces: namespaces, Erased: m.erased, Validation: validation{IsValid: true, Completeness: 100, Errors: []string{}, Warnings: []string{}}}
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
		return nil, nothing(m, q, lost)
	}
	b.Validation.Completeness = sum / len(objects)
	return b, nil
}

// nothing answers that there is nothing to reconstruct, and why.
func nothing(m *material, q *reconstruct.Question, lost []snapshot.Broken) error {
	why := "no event tells of a resource whose state was kept, or of a kind that is known"
	if !q.At.IsZero() && len(m.tellings) > 0 {
		first := m.tellings[0].Event.Timestamp
		for _, told := range m.tellings {
			if told.Event.Timestamp.Before(first) {
				first = told.Event.Timestamp
			}
		}
		if first.After(q.At) {
			why = "nothing of it had happened at " + event.FormatTime(q.At) + "; the first that is recorded is of " + event.FormatTime(first)
		}
	}
	for _, l := range lost {
		why += "; the state in entry " + str(l.Index) + " cannot be read: " + l.Reason
	}
	if q.Erased != "" {
		why += "; " + q.Erased
	}
	return problem.NotFound(why)
}

// Incident returns an incident's resources as they were; nil if it has no events.
func (t *Teller) Incident(ctx context.Context, cp *trail.Checkpoint, q *reconstruct.Question, id string, namespaces []string) (any, error) {
	m, err := t.gather(ctx, cp, &search.Filter{CorrelationID: id, Scope: namespaces})
	if err != nil || len(m.tellings) == 0 {
		return nil, err
	}
	return t.document(m, q, id, namespaces)
}

// Resource returns a resource as it was.
func (t *Teller) Resource(ctx context.Context, cp *trail.Checkpoint, q *reconstruct.Question, namespaces []string) (any, error) {
	if q.Name == "" {
		return nil, problem.Param("resource", "required, as KIND/NAMESPACE/NAME")
	}
	m, err := t.gather(ctx, cp, &search.Filter{Kind: q.Kind, Namespace: q.Namespace, Resource: q.Name, Scope: namespaces})
	if err != nil {
		return nil, err
	}
	return t.document(m, q, "", namespaces)
}

func (t *Teller) document(m *material, q *reconstruct.Question, id string, namespaces []string) (any, error) {
	b, err := t.build(m, q, id, namespaces)
	if err != nil {
		return nil, err
	}
	text, err := reconstruct.YAML(b.Objects)
	return struct {
		YAML string `json:"yaml"`
		*built
	}{string(text), b}, err
}

// The problems of remediation requests, as Kubernaut tells them apart.
func unfit(kind, title, detail string) *problem.Problem {
	return problem.New(http.StatusBadRequest, "reconstruction/"+kind, title, detail)
}

// leastComplete is the completeness, in per cent, below which a remediation request is
// none.
const leastComplete = 50

// Request returns a remediation request as it was, in Kubernaut's form.
func (t *Teller) Request(ctx context.Context, cp *trail.Checkpoint, q *reconstruct.Question, id string, namespaces []string) (any, error) {
	m, err := t.gather(ctx, cp, &search.Filter{CorrelationID: id, Scope: namespaces})
	if err != nil {
		return nil, err
	}
	if len(m.tellings) == 0 {
		why := "no event has this correlation id, or you may not see it"
		if m.erased != nil {
			why += "; " + m.erased.String()
		}
		return nil, problem.New(http.StatusNotFound, "audit/correlation-not-found", "There is no such remediation request", why)
	}
	whole, err := t.build(m, q, id, namespaces)
	if err != nil {
		var p *problem.Problem
		if errors.As(err, &p) {
			return nil, unfit("no-parseable-events", "No event tells of a remediation request", p.Detail)
		}
		return nil, err
	}
	i := slices.IndexFunc(whole.Objects, func(o *reconstruct.Object) bool { return o.Kind == "RemediationRequest" && o.Name == id })
	if i < 0 {
		i = slices.IndexFunc(whole.Objects, func(o *reconstruct.Object) bool { return o.Kind == "RemediationRequest" })
	}
	if i < 0 {
		return nil, unfit("no-parseable-events", "No event tells of a remediation request", "the events with this correlation id tell of other resources; reconstruct the incident")
	}
	rr := whole.Objects[i]
	if !known(rr, "spec.signalName") {
		return nil, unfit("missing-gateway-event", "The signal is not recorded", "no gateway.signal.received or apifrontend.rr.created, and no state of the request, says what it was made for")
	}
	if rr.Completeness < leastComplete {
		p := unfit("incomplete-data", "Too little is recorded", str(int64(rr.Completeness))+" per cent of what a remediation request should have is known, and "+str(leastComplete)+" is the least")
		for _, u := range rr.Unknown {
			p.Errors = append(p.Errors, problem.Fault{Field: u.Path, Reason: u.Why})
		}
		return nil, p
	}
	text, err := reconstruct.YAML([]*reconstruct.Object{rr})
	if err != nil {
		return nil, err
	}
	related := slices.Delete(slices.Clone(whole.Objects), i, i+1)
	others, err := reconstruct.YAML(related)
	if err != nil {
		return nil, err
	}
	whole.Validation = validation{rr.Valid, rr.Completeness, rr.Errors, rr.Warnings}
	story := narrative.New(id, until(m.tellings, q.At), namespaces)
	return struct {
		YAML        string `json:"remediation_request_yaml"`
		RelatedYAML string `json:"related_yaml"`
		ClusterID   string `json:"cluster_id,omitempty"`
		*built
		Fields    []reconstruct.Field   `json:"fields"`
		Unknown   []reconstruct.Unknown `json:"unknown"`
		Approvals []narrative.Decided   `json:"approvals"`
		Effect    []narrative.Line      `json:"effectiveness"`
	}{string(text), string(others), rr.Cluster, whole, rr.Fields, rr.Unknown, story.Approvals, story.Effects}, nil
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
