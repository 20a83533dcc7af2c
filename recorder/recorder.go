package recorder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/event"
)

// A Sender takes events. It has the event, durably, once Record returns nil.
type Sender interface {
	Record(ctx context.Context, e *event.Event) error
}

// Issues reads Issues from the cluster.
type Issues interface {
	// Issue returns the Issue of that name, or nil if there is none; in any
	// namespace, where namespace is empty and there is only one.
	Issue(ctx context.Context, namespace, name string) (*v1alpha1.Issue, error)
}

// Config configures a Recorder.
type Config struct {
	// Sender takes the events. It is required.
	Sender Sender
	// Dir is a directory on a disk that outlives the process, in which the
	// recorder keeps what it told, a file each, for thirty days, so that it tells
	// the same again in the same words. Empty means to keep it in memory only.
	Dir string
	// Issues, if not nil, tells which incident an Issue belongs to, and how grave
	// it is. An Issue that is gone stands for itself; one that cannot be read is
	// an error, for it may belong to another incident.
	Issues Issues
	// ServiceAccount is the one that the program runs as.
	ServiceAccount string
	// Cluster names the cluster.
	Cluster string
	// Now is the clock; nil means the machine's.
	Now func() time.Time
}

// A Recorder records what happens to resources. Its methods may be called
// concurrently. They return an error where the event could not be kept, or where
// what they were given cannot be told.
type Recorder struct {
	config Config
	told   *told
}

// New returns a Recorder.
func New(c Config) (*Recorder, error) {
	if c.Sender == nil {
		return nil, errors.New("recorder: no Sender")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	told, err := openTold(c.Dir, c.Now)
	if err != nil {
		return nil, fmt.Errorf("recorder: %w", err)
	}
	return &Recorder{config: c, told: told}, nil
}

// A telling is what is told.
type telling struct {
	eventType string
	object    client
	// kind, name and namespace are of a resource that is no object here.
	kind, name, namespace string
	at                    time.Time
	// which time it is that this happens to the object. It is part of the fact.
	which string
	// state, if not empty, names something that is now one way and now the other:
	// it is told again after it was the other way, whatever which says.
	state string
	// once, if not empty, stands for which in what is remembered: within window it is
	// told once, though which is another by then.
	once string
	// window, if not 0, is how long the same words are one telling; longer, where
	// slides, if they come again within it.
	window time.Duration
	slides bool

	actor    event.Actor
	issue    string // that it belongs to, in the object's namespace
	incident string // that it belongs to, where it is known
	severity string // empty means the Issue's, if grave counts
	grave    bool
	outcome  string
	failure  string
	duration time.Duration
	details  details
}

// client is an object of the API server.
type client interface {
	metav1.Object
	runtime.Object
}

// details are names and values. What is empty is not told.
type details map[string]string

// maxDetail is what is told of a detail, in bytes.
const maxDetail = 16 << 10

// tell makes the event, or takes the one that was made when it was told first, and
// hands it to the Sender.
func (r *Recorder) tell(ctx context.Context, t telling) error {
	e, err := r.event(ctx, t)
	if err == nil {
		e, err = r.told.first(e, t)
	}
	if err == nil {
		err = r.config.Sender.Record(ctx, e)
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", t.eventType, err)
	}
	return nil
}

func (r *Recorder) event(ctx context.Context, t telling) (*event.Event, error) {
	e := &event.Event{EventType: t.eventType, Timestamp: t.at.UTC(), Actor: t.actor, Severity: t.severity, Outcome: t.outcome, Cluster: r.config.Cluster,
		Resource: event.Resource{Kind: t.kind, Name: t.name, Namespace: t.namespace}, DurationMs: max(0, t.duration.Milliseconds()),
		Error: event.Failure{Message: clip(t.failure)}}
	if e.Actor.Type == event.ActorController {
		e.Actor.ServiceAccount = r.config.ServiceAccount
	}
	if t.object != nil {
		var err error
		if e.Resource, err = resourceOf(t.object); err != nil {
			return nil, err
		}
	}
	issue, err := r.incident(ctx, e.Resource.Namespace, t.issue)
	if err != nil {
		return nil, err
	}
	e.CorrelationID = cmp.Or(t.incident, issue.id)
	if t.grave {
		e.Severity = cmp.Or(e.Severity, issue.severity)
	}
	for name, value := range t.details {
		if t.details[name] = clip(value); value == "" {
			delete(t.details, name)
		}
	}
	r.fit(e)
	if len(t.details) == 0 {
		return e, nil
	}
	return e, e.SetDetails(t.details)
}

// fit has an event say what others wrote as the ledger takes it, and keeps what they
// wrote: nobody keeps an event from the ledger by what they are called.
func (r *Recorder) fit(e *event.Event) {
	for field, s := range map[string]*string{"actor.name": &e.Actor.Name, "actor.serviceAccount": &e.Actor.ServiceAccount, "correlationID": &e.CorrelationID} {
		if good := clipTo(event.MaxString, *s); good != *s {
			e.KeepOriginal(field, clip(*s))
			*s = good
		}
	}
	if e.Actor.Name == "" {
		e.Actor.Name = "unknown"
	}
	if _, known := event.Severity(e.Severity); !known && e.Severity != "" {
		e.KeepOriginal("severity", clip(e.Severity))
		e.Severity = ""
	}
}

// resourceOf names an object.
func resourceOf(object client) (event.Resource, error) {
	gvk := object.GetObjectKind().GroupVersionKind()
	if gvk.Kind == "" { // typed clients leave it out
		scheme := runtime.NewScheme()
		if err := v1alpha1.AddToScheme(scheme); err != nil {
			return event.Resource{}, err
		}
		kinds, _, err := scheme.ObjectKinds(object)
		if err != nil {
			return event.Resource{}, fmt.Errorf("object of an unknown kind, and without its own word for it (TypeMeta): %T", object)
		}
		gvk = kinds[0]
	}
	return event.Resource{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Namespace: object.GetNamespace(), Name: object.GetName(), UID: string(object.GetUID())}, nil
}

// An incident is what an Issue says of it.
type incident struct {
	id, severity string
}

// incident returns the incident of an Issue.
func (r *Recorder) incident(ctx context.Context, namespace, name string) (incident, error) {
	if name == "" || strings.HasPrefix(name, "suppressed:") {
		return incident{}, nil
	}
	issue, err := r.read(ctx, namespace, name)
	if err != nil || issue == nil {
		return incident{id: name}, err // what is known is told all the same
	}
	return incident{incidentOf(issue), issue.Spec.Severity}, nil
}

// read returns an Issue, or nil if there is none, or it cannot be asked for.
func (r *Recorder) read(ctx context.Context, namespace, name string) (*v1alpha1.Issue, error) {
	if r.config.Issues == nil {
		return nil, nil
	}
	issue, err := r.config.Issues.Issue(ctx, namespace, name)
	if err != nil {
		return nil, fmt.Errorf("read Issue %s: %w", name, err)
	}
	return issue, nil
}

// incidentOf returns the id of the incident that an Issue stands for.
func incidentOf(issue *v1alpha1.Issue) string {
	return cmp.Or(issue.Spec.CorrelationId, issue.Name)
}

// clip cuts a text where it is longer than a detail may be.
func clip(text string) string { return clipTo(maxDetail, text) }

// clipTo cuts a text where it has more than so many bytes.
func clipTo(most int, text string) string {
	text = strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
	if len(text) <= most {
		return text
	}
	n := most - len("…")
	for !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n] + "…"
}

// first returns the first time that is set.
func first(times ...*metav1.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t.Time
		}
	}
	return time.Time{}
}

// between returns how long it took, if both are set.
func between(from, to *metav1.Time) time.Duration {
	if from.IsZero() || to.IsZero() {
		return 0
	}
	return to.Sub(from.Time)
}

func controller(name string) event.Actor {
	return event.Actor{Type: event.ActorController, Name: name}
}

func system(name string) event.Actor { return event.Actor{Type: event.ActorSystem, Name: name} }

func user(name string) event.Actor { return event.Actor{Type: event.ActorUser, Name: name} }

// resource returns how details name a resource.
func resource(ref v1alpha1.ResourceRef) string {
	return strings.ToLower(ref.Kind) + "/" + ref.Name
}
