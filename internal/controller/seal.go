package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	gravenclient "github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/protection"
	"github.com/graven-audit/graven/trail"
)

// A sealer records AuditEvents, and has them bear the receipt.
type sealer struct {
	api     client.Client // reads from the cache
	ledger  *Ledger
	probed  *protection.Prober
	losses  *losses
	mine    *mine
	self    string // the operator's own user
	cluster string
	metrics *metrics
	log     *slog.Logger

	mu sync.Mutex
	// checked are the objects that were held against the ledger since the operator
	// started; tried are those that may be in it.
	checked map[types.UID]verdict
	tried   map[types.UID]bool
	// again is set when something came back whose content may have been erased.
	again atomic.Bool
}

// A verdict is where an object is in the ledger, and what it said of that when it was
// judged.
type verdict struct {
	receipt receipt
	claim   receipt
}

// Reconcile seals the AuditEvent of a name, and those that went before they were
// sealed.
func (s *sealer) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	k := s.probed.Known()
	if k == nil { // who created it could not be told
		return reconcile.Result{RequeueAfter: retryPause / 2}, nil
	}
	if err := s.sealLost(ctx, req.NamespacedName, k.Definition); err != nil {
		return reconcile.Result{}, err
	}
	u := newAuditEvent()
	if err := s.api.Get(ctx, req.NamespacedName, u); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if v, ok := s.verdict(u.GetUID()); ok {
		if claim, _ := receiptOf(u); claim == v.claim {
			return reconcile.Result{}, nil
		}
	}
	r, err := s.seal(ctx, u, k.Definition)
	if err != nil {
		return reconcile.Result{}, fmt.Errorf("seal %s: %w", req.NamespacedName, err)
	}
	return reconcile.Result{}, s.give(ctx, u, r)
}

// verdict returns what is known of an object.
func (s *sealer) verdict(uid types.UID) (verdict, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.checked[uid]
	return v, ok
}

func (s *sealer) check(uid types.UID, v verdict) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checked[uid] = v
	delete(s.tried, uid)
}

// forget forgets an object that is gone.
func (s *sealer) forget(uid types.UID) {
	s.mu.Lock()
	delete(s.checked, uid)
	delete(s.tried, uid)
	s.mu.Unlock()
	s.mine.forget(uid)
}

// maybe reports whether an object may be in the ledger already, and remembers that
// it is from now on.
func (s *sealer) maybe(u *unstructured.Unstructured) bool {
	s.mu.Lock()
	before := s.tried[u.GetUID()]
	s.tried[u.GetUID()] = true
	s.mu.Unlock()
	return before || s.mine.before(u)
}

// A sealed is what became of an object.
type sealed struct {
	receipt
	duplicate bool
}

// seal has an object in the ledger, and returns where it is. What it bears of ours
// already is held against that.
func (s *sealer) seal(ctx context.Context, u *unstructured.Unstructured, d *protection.Definition) (sealed, error) {
	claimed := claims(u)
	if claimed && u.GetLabels()[v1alpha1.LabelMirror] != "" {
		r, done, err := s.sealMirror(ctx, u, d)
		if done || err != nil {
			return r, err
		}
	}
	r, had, err := s.had(ctx, u)
	if err != nil {
		return r, err
	}
	if !had {
		if r, err = s.record(ctx, u, s.creator(u)); err != nil {
			return r, err
		}
	}
	if r.duplicate && hasContent(u) {
		s.again.Store(true)
	}
	if !claimed {
		return s.tellOther(ctx, u, r)
	}
	switch claim, ok := receiptOf(u); {
	case !ok || claim != r.receipt: // it was made to look sealed
		return r, s.tellCopy(ctx, u, "false")
	case u.GetAnnotations()[v1alpha1.AnnotationSealedUID] != string(u.GetUID()):
		return r, s.tellCopy(ctx, u, "restored")
	}
	return r, nil
}

// tellOther looks at an object that says what was said before, in another's name. If
// that was an object, too, this is the same one restored; if somebody has only said
// it, they shall not take the creator's place.
func (s *sealer) tellOther(ctx context.Context, u *unstructured.Unstructured, r sealed) (sealed, error) {
	creator := s.creator(u)
	if !r.duplicate || creator == "" {
		return r, nil
	}
	line, err := s.ledger.at(ctx, r.index)
	if status(err) == http.StatusGone {
		return r, nil
	}
	if err != nil || line.Event.Recorded.Principal == creator || line.Event.EventType == typeRefused {
		return r, err
	}
	ours, err := s.ours(ctx, line)
	if err != nil {
		return r, err
	}
	if ours {
		return r, s.tellCopy(ctx, u, "restored")
	}
	e, err := s.eventOf(u, creator)
	if err != nil {
		return r, err
	}
	e.Rename(ownID(u))
	return s.send(ctx, u, e, creator)
}

// ours reports whether an operator has recorded a line: whoever attests, or who has
// told of the protection.
func (s *sealer) ours(ctx context.Context, line *trail.Line) (bool, error) {
	if strings.HasPrefix(line.Event.Recorded.Via, "admission/") {
		return true, nil
	}
	self, err := s.ledger.self(ctx)
	return self != "" && line.Event.Recorded.Principal == self, err
}

// sealMirror judges an object that says it is a mirror. It is done with if the
// object says what the ledger says.
func (s *sealer) sealMirror(ctx context.Context, u *unstructured.Unstructured, d *protection.Definition) (r sealed, done bool, err error) {
	claim, ok := receiptOf(u)
	if !ok {
		return r, false, nil
	}
	origin, err := s.ledger.origin(ctx)
	if err != nil {
		return r, false, err
	}
	line, err := s.ledger.at(ctx, claim.index)
	switch code := status(err); {
	case code == http.StatusNotFound || code == http.StatusBadRequest:
		return r, false, nil
	case code == http.StatusGone && claim.origin == origin && s.made(u):
		return sealed{receipt: claim}, true, nil // nothing is left to hold it against
	case code == http.StatusGone:
		return r, false, nil
	case err != nil:
		return r, false, err
	}
	if claim == receiptIn(line, origin) && s.made(u) && within(u, line) {
		return sealed{receipt: claim}, true, nil
	}
	if !mirrors(u, line, origin, d) {
		return r, false, nil
	}
	if !s.made(u) {
		err = s.tellCopy(ctx, u, "true")
	}
	return sealed{receipt: claim}, true, err
}

// made reports whether the operator created an object, as far as anybody can know.
func (s *sealer) made(u *unstructured.Unstructured) bool {
	if creator := s.probed.Creator(u); creator != "" {
		return creator == s.self
	}
	return creatorOf(u) == s.self && s.mine.may(u)
}

// ownID returns the id of an object that cannot have the id that it would: nobody
// else can take it.
func ownID(u *unstructured.Unstructured) event.ID {
	return event.DeriveID("auditevent", string(u.GetUID())).Reserve()
}

// creator returns who created an object, as the ledger can keep it; empty if that is
// not known.
func (s *sealer) creator(u *unstructured.Unstructured) string {
	creator := s.probed.Creator(u)
	if access.CheckName(creator) != nil {
		return ""
	}
	return creator
}

// eventOf returns the event that an object is, with what is known of it.
func (s *sealer) eventOf(u *unstructured.Unstructured, creator string) (*event.Event, error) {
	e, err := eventOf(u)
	if err != nil {
		return nil, err
	}
	if t, ok := event.Lookup(e.EventType); ok && t.Family == family {
		return nil, &event.FieldError{Field: "spec.eventType", Reason: t.Type + " is what the operator alone tells"}
	}
	if e.Cluster == "" {
		e.Cluster = s.cluster
	}
	if claimed := creatorOf(u); claimed != "" && creator == "" {
		e.KeepOriginal(v1alpha1.AnnotationCreatedBy, cut(claimed, event.MaxString)) // anybody may have written it
	}
	if e.ID.Reserved() {
		e.Rename(ownID(u))
	}
	return e, nil
}

// record records an object on behalf of who created it.
func (s *sealer) record(ctx context.Context, u *unstructured.Unstructured, creator string) (sealed, error) {
	e, err := s.eventOf(u, creator)
	if err != nil {
		return s.recordRefused(ctx, u, err)
	}
	if s.maybe(u) {
		if r, ok, err := s.find(ctx, u, e.ID); ok || err != nil {
			return r, err
		}
	}
	return s.send(ctx, u, e, creator)
}

// find returns where an object is in the ledger, if it was recorded before: by
// another operator, perhaps, or when less was known of it.
func (s *sealer) find(ctx context.Context, u *unstructured.Unstructured, id event.ID) (r sealed, ok bool, err error) {
	for _, id := range []event.ID{ownID(u), id} {
		line, err := s.ledger.line(ctx, id.String())
		if code := status(err); code == http.StatusNotFound || code == http.StatusGone {
			continue
		}
		if err != nil {
			return r, false, err
		}
		if ours, err := s.ours(ctx, line); err != nil {
			return r, false, err
		} else if ours && says(u, line) {
			origin, err := s.ledger.origin(ctx)
			return sealed{receipt: receiptIn(line, origin), duplicate: true}, err == nil, err
		}
	}
	return r, false, nil
}

// send records an object's event.
func (s *sealer) send(ctx context.Context, u *unstructured.Unstructured, e *event.Event, creator string) (sealed, error) {
	r, err := s.ledger.record(ctx, creator, e)
	if status(err) == http.StatusConflict && !e.ID.Reserved() {
		// Another object of that name, or another with that id, said something
		// else.
		e.Rename(ownID(u))
		r, err = s.ledger.record(ctx, creator, e)
	}
	if status(err) == http.StatusConflict { // it was recorded when other things were known of it
		line, err := s.ledger.line(ctx, e.ID.String())
		if err != nil {
			return sealed{}, err
		}
		origin, err := s.ledger.origin(ctx)
		return sealed{receipt: receiptIn(line, origin), duplicate: true}, err
	}
	if noEvent(err) {
		return s.recordRefused(ctx, u, err)
	}
	if err != nil {
		return sealed{}, err
	}
	return s.sealedAs(ctx, r.Index, r.LeafHash, r.Duplicate)
}

// had returns where an object is in the ledger if it bears the receipt of that
// already. What it says itself is held against the entry; not what was added to it
// when it was sealed, which another operator may have known otherwise.
func (s *sealer) had(ctx context.Context, u *unstructured.Unstructured) (r sealed, had bool, err error) {
	claim, ok := receiptOf(u)
	if !ok {
		return r, false, nil
	}
	line, err := s.ledger.at(ctx, claim.index)
	switch status(err) {
	case http.StatusNotFound, http.StatusBadRequest, http.StatusGone:
		return r, false, nil
	}
	if err != nil {
		return r, false, err
	}
	origin, err := s.ledger.origin(ctx)
	if err != nil || receiptIn(line, origin) != claim {
		return r, false, err
	}
	refused := func(uid string) bool {
		return uid != "" && line.Event.ID == event.DeriveID(typeRefused, uid).Reserve()
	}
	return sealed{receipt: claim, duplicate: true},
		refused(string(u.GetUID())) || refused(u.GetAnnotations()[v1alpha1.AnnotationSealedUID]) && line.Event.Resource.Name == u.GetName() || says(u, line), nil
}

// noEvent reports whether the server will never take an event for what it says. That
// the operator may not record is another matter.
func noEvent(err error) bool {
	var p *gravenclient.Problem
	if !errors.As(err, &p) {
		return false
	}
	return p.Status == http.StatusBadRequest && p.Param == "" && len(p.Errors) > 0 || p.Status == http.StatusRequestEntityTooLarge ||
		p.Status == http.StatusForbidden && strings.HasSuffix(p.Type, ":reserved")
}

func (s *sealer) sealedAs(ctx context.Context, index int64, leaf string, duplicate bool) (sealed, error) {
	origin, err := s.ledger.origin(ctx)
	return sealed{receipt: receipt{index, leaf, origin}, duplicate: duplicate}, err
}

// maxKept bounds what is kept of an object that is no event, in bytes of JSON. Beside
// it stand the reason and who created it.
const maxKept = event.MaxDetails - 32<<10

// kept returns an object's spec as text that has room in an event's details: whole, or
// with the longest of its own details shortened, whose names it returns.
func kept(spec map[string]any) (text string, shortened []string, err error) {
	spec = runtime.DeepCopyJSON(spec)
	for {
		whole, err := json.Marshal(spec)
		if err != nil {
			return "", nil, err
		}
		quoted, err := json.Marshal(string(whole))
		if err != nil {
			return "", nil, err
		}
		if len(quoted) <= maxKept {
			slices.Sort(shortened)
			return string(whole), slices.Compact(shortened), nil
		}
		member, name, length := "", "", 1024 // less is no matter
		for _, of := range []string{"details", "original"} {
			values, _ := spec[of].(map[string]any)
			for k, v := range values {
				if s, ok := v.(string); ok && (len(s) > length || len(s) == length && k < name) {
					member, name, length = of, k, len(s)
				}
			}
		}
		if member == "" { // it is the rest, which is odd
			return cut(string(whole), maxKept/6), append(shortened, "spec"), nil // a byte takes six at most
		}
		values := spec[member].(map[string]any)
		values[name] = cut(values[name].(string), length/2)
		shortened = append(shortened, member+"."+name)
	}
}

// recordRefused records that an object is no event, and what it is.
func (s *sealer) recordRefused(ctx context.Context, u *unstructured.Unstructured, why error) (sealed, error) {
	e := own(typeRefused, u.GetCreationTimestamp().Time, describe(u))
	e.ID = event.DeriveID(typeRefused, string(u.GetUID())).Reserve()
	e.CorrelationID = cut(correlationOf(u), event.MaxString)
	whole, _, _ := unstructured.NestedMap(u.Object, "spec")
	spec, shortened, err := kept(whole)
	if err != nil {
		return sealed{}, err
	}
	details := map[string]string{"reason": cut(why.Error(), 4096), "spec": spec, "creator": cut(creatorOf(u), event.MaxString)}
	if len(shortened) > 0 {
		details["shortened"] = strings.Join(shortened, ",")
	}
	if err := e.SetDetails(details); err != nil {
		return sealed{}, err
	}
	r, err := s.ledger.record(ctx, "", e)
	if status(err) == http.StatusConflict { // the reason had other words
		line, err := s.ledger.line(ctx, e.ID.String())
		if err != nil {
			return sealed{}, err
		}
		origin, err := s.ledger.origin(ctx)
		return sealed{receipt: receiptIn(line, origin), duplicate: true}, err
	}
	if err != nil {
		return sealed{}, err
	}
	if !r.Duplicate {
		s.metrics.refused.Inc()
		s.log.Warn("an AuditEvent is no event; the ledger says so", "namespace", u.GetNamespace(), "name", u.GetName(), "reason", why)
	}
	return s.sealedAs(ctx, r.Index, r.LeafHash, r.Duplicate)
}

// cut shortens text to a number of bytes.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for n > 0 && text[n]&0xC0 == 0x80 { // amid a letter
		n--
	}
	return text[:n]
}

// tellCopy records that somebody else made an object that wears our annotations:
// one that says what the ledger says ("true"), that was sealed as another object
// ("restored"), or that lies ("false").
func (s *sealer) tellCopy(ctx context.Context, u *unstructured.Unstructured, faithful string) error {
	e := own(typeCopied, u.GetCreationTimestamp().Time, describe(u))
	e.ID = event.DeriveID(typeCopied, string(u.GetUID())).Reserve()
	e.CorrelationID = cut(correlationOf(u), event.MaxString)
	if faithful != "false" {
		e.Severity = event.SeverityInfo
	}
	a := u.GetAnnotations()
	err := e.SetDetails(map[string]string{"faithful": faithful, "creator": cut(creatorOf(u), event.MaxString),
		"claimedIndex": cut(a[v1alpha1.AnnotationIndex], 64), "claimedLeafHash": cut(a[v1alpha1.AnnotationLeafHash], 128),
		"claimedOrigin": cut(a[v1alpha1.AnnotationOrigin], event.MaxString), "sealedUID": cut(a[v1alpha1.AnnotationSealedUID], 64)})
	if err != nil {
		return err
	}
	r, err := s.ledger.record(ctx, "", e)
	if status(err) == http.StatusConflict {
		return nil // it was told, when less was known of it
	}
	if err == nil && !r.Duplicate {
		s.metrics.copies.WithLabelValues(faithful).Inc()
	}
	return err
}

// give has an object bear its receipt.
func (s *sealer) give(ctx context.Context, u *unstructured.Unstructured, r sealed) error {
	have, ok := receiptOf(u)
	if !ok || have != r.receipt {
		missing := r.annotations(string(u.GetUID()))
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": u.GetUID(), "annotations": missing}})
		if err != nil {
			return err
		}
		err = s.api.Patch(ctx, u.DeepCopy(), client.RawPatch(types.MergePatchType, patch), client.FieldOwner(fieldOwner))
		switch {
		case apierrors.IsNotFound(err) || apierrors.IsConflict(err): // it is another now, or none
			return nil
		case (claims(u) || u.GetAnnotations()[v1alpha1.AnnotationSealedUID] != "") && (apierrors.IsForbidden(err) || apierrors.IsInvalid(err)):
			// What it bears is false, was recorded as such, and cannot be changed.
		case err != nil:
			return err
		default:
			have = r.receipt
		}
		if !r.duplicate {
			s.metrics.sealed.Inc()
		}
	}
	s.check(u.GetUID(), verdict{receipt: r.receipt, claim: have})
	return nil
}

// fieldOwner is the operator among those who write a field.
const fieldOwner = "graven-operator"

// sealLost has those objects of a name in the ledger that went before they were
// sealed, and records that they went.
func (s *sealer) sealLost(ctx context.Context, name types.NamespacedName, d *protection.Definition) error {
	gone, err := s.losses.of(name)
	if err != nil {
		return err
	}
	for _, u := range gone {
		r, err := s.seal(ctx, u, d)
		if err != nil {
			return err
		}
		if _, had := receiptOf(u); !had {
			e := own(typeLost, u.GetDeletionTimestamp().Time, describe(u))
			e.ID = event.DeriveID(typeLost, string(u.GetUID())).Reserve()
			e.CorrelationID = cut(correlationOf(u), event.MaxString)
			if err := e.SetDetails(map[string]string{"creator": cut(creatorOf(u), event.MaxString), "sealedAt": strconv.FormatInt(r.index, 10)}); err != nil {
				return err
			}
			if _, err := s.ledger.record(ctx, "", e); err != nil && status(err) != http.StatusConflict {
				return err
			}
			s.metrics.lost.Inc()
		}
		if err := s.losses.settled(u); err != nil {
			return err
		}
		s.forget(u.GetUID())
	}
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable: what is on its disk,
// only this operator can see to.
func (s *sealer) NeedLeaderElection() bool { return false }

// Start implements manager.Runnable: it sees to what was lost when the operator was
// not there to see to it, or the ledger was away.
func (s *sealer) Start(ctx context.Context) error {
	for {
		if k := s.probed.Known(); k != nil {
			left := 0
			var last error
			for _, name := range s.losses.names() {
				if err := s.sealLost(ctx, name, k.Definition); err != nil && ctx.Err() == nil {
					left, last = left+1, fmt.Errorf("%s: %w", name, err)
				}
			}
			if left > 0 {
				s.log.Warn("AuditEvents that went are not sealed yet", "names", left, "error", last)
			}
		}
		pause(ctx, 10*time.Second)
		if ctx.Err() != nil {
			return nil
		}
	}
}
