package controller

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
	"sigs.k8s.io/controller-runtime/pkg/client"

	v1alpha1 "github.com/graven-audit/graven/api/platform/v1alpha1"
	"github.com/graven-audit/graven/internal/protection"
	"github.com/graven-audit/graven/trail"
)

// A mirror shows the newest events of the ledger as AuditEvents.
type mirror struct {
	api       client.Client // reads from the cache
	direct    client.Reader // reads from the API server
	ledger    *Ledger
	probed    *protection.Prober
	sealer    *sealer
	self      string
	namespace string
	types     []string // empty for all
	levels    []string // severities; empty for all
	window    window
	limit     flowcontrol.RateLimiter
	metrics   *metrics
	log       *slog.Logger
	now       func() time.Time

	mu sync.Mutex // held while an incident is made, or goes
	// refused is since when policies have taken nothing; zero if they have.
	refused time.Time
	// latest has the newest index of each incident that is in the cluster.
	latest map[string]int64
	// whole has the incidents that were brought back since the operator started.
	whole map[string]bool
	// position is the index of the newest event that was mirrored, or is not to be.
	position atomic.Int64
	// Of eraseAll: erased is the index of the newest erasure that the whole cluster
	// was held against, and held has that of objects where others are not yet.
	erased int64
	held   map[types.UID]int64
	// owed are the indexes of events whose mirrors were taken away, and are to be made
	// of what is left.
	owed map[int64]bool
}

const (
	// retryPause is how long to wait before the API server is asked again.
	retryPause = time.Second
	// prunePause is how often the window is looked at.
	prunePause = 10 * time.Second
	// refusedFor is how long policies refuse before it is believed that they mean it.
	refusedFor = 2 * time.Minute
	// maxCreate bounds a request that others wait for.
	maxCreate = 30 * time.Second
	// maxPart is how many events of an incident are asked for at a time.
	maxPart = 1000
)

// Start implements manager.Runnable.
func (m *mirror) Start(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { m.pruneAll(ctx) })
	defer wg.Wait()
	for m.probed.Known() == nil && ctx.Err() == nil {
		pause(ctx, retryPause/10)
	}
	for ctx.Err() == nil {
		err := m.follow(ctx)
		if ctx.Err() != nil {
			return nil
		}
		m.log.Warn("mirroring stopped, and begins again", "error", err)
		pause(ctx, 5*retryPause)
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// query returns what is asked for: the events that are mirrored.
func (m *mirror) query() url.Values {
	q := url.Values{}
	if len(m.types) > 0 {
		q.Set("type", strings.Join(m.types, ","))
	}
	if len(m.levels) > 0 {
		q.Set("severity", strings.Join(m.levels, ","))
	}
	return q
}

// follow mirrors the events from where the cluster ends.
func (m *mirror) follow(ctx context.Context) error {
	after, err := m.resume(ctx)
	if err != nil {
		return err
	}
	m.log.Info("mirroring", "after", after)
	return m.ledger.client.Follow(ctx, m.query(), strconv.FormatInt(after, 10), func(raw json.RawMessage) error {
		var e seen
		if err := json.Unmarshal(raw, &e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		return m.see(ctx, &e)
	})
}

// resume returns the index that mirroring goes on behind: the highest in the
// cluster, or the last before the newest that have room there.
func (m *mirror) resume(ctx context.Context) (int64, error) {
	origin, size, err := m.ledger.newest(ctx)
	if err != nil {
		return 0, err
	}
	q := m.query()
	q.Set("limit", "1")
	q.Set("offset", strconv.Itoa(m.window.newest))
	events, _, err := m.ledger.list(ctx, q)
	if err != nil {
		return 0, err
	}
	after := int64(-1)
	if len(events) > 0 {
		after = events[0].Index
	}
	objects, err := m.objects(ctx)
	if err != nil {
		return 0, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.latest, m.whole = map[string]int64{}, map[string]bool{}
	mirrors := map[int64]*unstructured.Unstructured{}
	for i := range objects {
		u := &objects[i]
		it := itemOf(u, origin)
		if it.index < 0 || it.index >= size || u.GetLabels()[v1alpha1.LabelMirror] == "" || !m.sealer.made(u) {
			continue
		}
		mirrors[it.index] = u
		if it.incident != "" {
			m.latest[it.incident] = max(m.latest[it.incident], it.index)
		}
	}
	for _, index := range slices.Backward(slices.Sorted(maps.Keys(mirrors))) {
		if index <= after {
			break
		}
		line, err := m.ledger.at(ctx, index)
		if err != nil && status(err) != http.StatusGone {
			return 0, err
		}
		if claim, _ := receiptOf(mirrors[index]); err != nil || receiptIn(line, origin) == claim {
			after = index
			break
		} // else somebody has written an index, as anybody can
	}
	m.position.Store(after)
	return after, nil
}

// objects returns all AuditEvents there are.
func (m *mirror) objects(ctx context.Context) ([]unstructured.Unstructured, error) {
	list := new(unstructured.UnstructuredList)
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AuditEventList"))
	err := m.api.List(ctx, list)
	return list.Items, err
}

// unmirrored are types of events that are never mirrored.
var unmirrored = map[string]bool{typeSnapshot: true, typeRequest: true}

// see mirrors an event and, where its incident is not in the cluster, what belongs
// to it. It goes on until the API server has it, or has said that it will not.
func (m *mirror) see(ctx context.Context, e *seen) error {
	if unmirrored[e.EventType] || e.EventType == typeCopied && e.tells(m.self) {
		m.position.Store(e.Index) // whose mirror is large, or might be told of, and so on
		return nil
	}
	if m.window.span > 0 && m.now().Sub(e.Timestamp) > m.window.span {
		m.position.Store(e.Index)
		return nil
	}
	for {
		err := m.show(ctx, e)
		if err == nil {
			m.position.Store(e.Index)
		}
		if !errors.Is(err, errAway) {
			return err
		}
		m.log.Warn("an event is not mirrored yet", "index", e.Index, "error", err)
		if pause(ctx, retryPause); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// errAway means that the API server may take an object later: it cannot be reached,
// or the namespace is not there.
var errAway = errors.New("the API server does not take it")

// show mirrors an event, and what happened in its incident before.
func (m *mirror) show(ctx context.Context, e *seen) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.CorrelationID != "" && !m.whole[e.CorrelationID] {
		if err := m.bringBack(ctx, e); err != nil {
			return err
		}
		m.whole[e.CorrelationID] = true
	}
	if err := m.make(ctx, e.Index); err != nil {
		return err
	}
	if e.CorrelationID != "" {
		m.latest[e.CorrelationID] = e.Index
	}
	return nil
}

// behind measures how far mirroring is behind.
func (m *mirror) behind(ctx context.Context) error {
	q := m.query()
	q.Set("limit", "1")
	newest, _, err := m.ledger.list(ctx, q)
	if err == nil && len(newest) > 0 {
		m.metrics.lag.Set(float64(max(0, newest[0].Index-m.position.Load())))
	}
	return err
}

// bringBack mirrors what happened in an incident before an event. Of one that has
// more events than there is room for, it leaves the older ones.
func (m *mirror) bringBack(ctx context.Context, e *seen) error {
	q := m.query()
	q.Set("correlation_id", e.CorrelationID)
	q.Set("limit", strconv.Itoa(maxPart))
	var before []int64
	for offset := 0; ; offset += maxPart {
		q.Set("offset", strconv.Itoa(offset))
		events, _, err := m.ledger.list(ctx, q)
		if err != nil {
			return err
		}
		for i := range events {
			if events[i].Index < e.Index && !unmirrored[events[i].EventType] {
				before = append(before, events[i].Index)
			}
		}
		if len(events) < maxPart || len(before) >= m.window.newest {
			break
		}
	}
	before = before[:min(len(before), m.window.newest)] // the newest first
	for i := len(before) - 1; i >= 0; i-- {
		if err := m.make(ctx, before[i]); err != nil {
			return err
		}
	}
	return nil
}

// make mirrors one event.
func (m *mirror) make(ctx context.Context, index int64) error {
	line, err := m.ledger.at(ctx, index)
	switch {
	case status(err) == http.StatusGone:
		return nil
	case err != nil:
		return err
	}
	origin, err := m.ledger.origin(ctx)
	if err != nil {
		return err
	}
	second, part := false, false
	for {
		if err := m.limit.Wait(ctx); err != nil {
			return err
		}
		u, err := mirrorOf(line, origin, m.namespace, m.probed.Known().Definition, part)
		if err != nil {
			return err
		}
		u.SetName(nameOf(line.Event, second))
		annotations := u.GetAnnotations()
		annotations[v1alpha1.AnnotationCreatedBy] = m.self
		u.SetAnnotations(annotations)
		err = m.sealer.mine.make(u, func() error {
			ctx, cancel := context.WithTimeout(ctx, maxCreate)
			defer cancel()
			return m.api.Create(ctx, u, client.FieldOwner(fieldOwner))
		})
		switch {
		case err == nil:
			m.metrics.mirrored.Inc()
			m.refused = time.Time{}
			return nil
		case apierrors.IsAlreadyExists(err):
			same, err := m.isThere(ctx, line, origin, u)
			if err != nil {
				return fmt.Errorf("%w: look at what has its name: %w", errAway, err)
			}
			if same {
				return nil
			}
			if second {
				m.metrics.unmirrored.Inc()
				m.log.Warn("an event is not mirrored: others have both of its names", "index", index)
				return nil
			}
			second = true
		case byPolicy(err) && m.patient():
			return fmt.Errorf("%w: %w", errAway, err)
		case apierrors.IsInvalid(err) || apierrors.IsRequestEntityTooLargeError(err) || apierrors.IsBadRequest(err):
			if part {
				m.metrics.unmirrored.Inc()
				m.log.Warn("an event cannot be mirrored", "index", index, "error", err)
				return nil
			}
			part = true
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			return fmt.Errorf("%w: %w", errAway, err)
		}
	}
}

// byPolicy reports whether a policy has refused an object, or could not be applied to
// it. What the definition refuses names a field.
func byPolicy(err error) bool {
	var answer apierrors.APIStatus
	if !apierrors.IsInvalid(err) || !errors.As(err, &answer) {
		return false
	}
	d := answer.Status().Details
	return d == nil || !slices.ContainsFunc(d.Causes, func(c metav1.StatusCause) bool { return c.Field != "" })
}

// patient reports whether what policies refuse may be taken yet: where a definition was
// changed, they go by the old one for up to a minute.
func (m *mirror) patient() bool {
	if m.refused.IsZero() {
		m.refused = m.now()
	}
	return m.now().Sub(m.refused) < refusedFor
}

// isThere reports whether the object that has a mirror's name is of the same event:
// the mirror, or what was sealed as it, or will be.
func (m *mirror) isThere(ctx context.Context, line *trail.Line, origin string, want *unstructured.Unstructured) (bool, error) {
	u := newAuditEvent()
	if err := m.direct.Get(ctx, client.ObjectKeyFromObject(want), u); err != nil {
		return false, err
	}
	faithful := mirrors(u, line, origin, m.probed.Known().Definition)
	if faithful && creatorOf(u) == m.self {
		m.sealer.mine.found(u)
	}
	claim, _ := receiptOf(u)
	return faithful || says(u, line) || claim == receiptIn(line, origin) && m.sealer.made(u), nil
}

// pruneAll has what is beyond the window go, again and again.
func (m *mirror) pruneAll(ctx context.Context) {
	tick := time.NewTicker(prunePause)
	defer tick.Stop()
	for {
		if err := errors.Join(m.behind(ctx), m.prune(ctx)); err != nil && ctx.Err() == nil {
			m.log.Warn("prune AuditEvents", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prune deletes what is sealed and beyond the window, and what was erased from the
// ledger.
func (m *mirror) prune(ctx context.Context) error {
	objects, err := m.objects(ctx)
	if err != nil {
		return err
	}
	origin, err := m.ledger.origin(ctx)
	if err != nil {
		return err
	}
	var items []item
	unsealed := 0
	for i := range objects {
		if objects[i].GetDeletionTimestamp() != nil {
			continue // somebody's finalizer has it stay
		}
		if _, ok := receiptOf(&objects[i]); !ok {
			unsealed++
		} else if it, ok := m.item(&objects[i], origin); ok {
			items = append(items, it)
		}
	}
	m.metrics.unsealed.Set(float64(unsealed))
	here := map[string]bool{}
	for _, it := range items {
		here[it.incident] = true
	}
	m.mu.Lock()
	latest := make(map[string]int64, len(m.latest))
	for name, index := range m.latest {
		if here[name] {
			latest[name] = index
		} else { // others have deleted it, or the cache lacks it still: it is made whole again
			delete(m.latest, name)
			delete(m.whole, name)
		}
	}
	m.mu.Unlock()
	for _, in := range m.window.beyond(items, latest, m.now()) {
		if err := m.drop(ctx, in, latest[in.name]); err != nil {
			return err
		}
	}
	return m.eraseAll(ctx, origin)
}

// item returns what a window needs of an object that was judged: where it is in the
// ledger is not what it says itself.
func (m *mirror) item(u *unstructured.Unstructured, origin string) (item, bool) {
	v, ok := m.sealer.verdict(u.GetUID())
	it := itemOf(u, origin)
	it.index = -1
	if v.receipt.origin == origin {
		it.index = v.receipt.index
	}
	return it, ok
}

// drop deletes an incident, unless something has happened in it since.
func (m *mirror) drop(ctx context.Context, in incident, latest int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	listed := int64(-1)
	for _, it := range in.items {
		listed = max(listed, it.index)
	}
	if now, ok := m.latest[in.name]; ok && in.name != "" && (now != latest || now > listed) {
		m.latest[in.name] = min(now, listed) // what the cache lacks it has the next time, or nobody has
		return nil
	}
	delete(m.latest, in.name)
	delete(m.whole, in.name)
	for _, it := range in.items {
		if err := m.remove(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirror) remove(ctx context.Context, it item) error {
	if err := m.limit.Wait(ctx); err != nil {
		return err
	}
	u := newAuditEvent()
	u.SetNamespace(it.name.Namespace)
	u.SetName(it.name.Name)
	err := m.api.Delete(ctx, u, client.Preconditions{UID: &it.uid})
	if err == nil {
		m.metrics.pruned.Inc()
	} else if !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("delete %s: %w", it.name, err)
	}
	return nil
}

// eraseAll takes from the cluster what was erased from the ledger since it was
// asked last. What is left of an event is mirrored anew.
func (m *mirror) eraseAll(ctx context.Context, origin string) error {
	last, err := m.ledger.last(ctx, "ContentErased,RetentionRun")
	if err != nil || last == nil {
		return err
	}
	if again := m.sealer.again.Swap(false); last.Index <= m.erased && !again {
		return nil
	}
	m.mu.Lock() // once what was read before is made
	err = m.pay(ctx)
	var objects []unstructured.Unstructured
	if err == nil {
		objects, err = m.allNow(ctx)
	}
	m.mu.Unlock()
	if err != nil {
		m.sealer.again.Store(true)
		return err
	}
	held, all := map[types.UID]int64{}, true
	for i := range objects {
		u := &objects[i]
		it, judged := m.item(u, origin)
		switch {
		case !judged:
			all = false // which event it is of is still to be seen
			continue
		case it.index >= 0 && m.held[it.uid] < last.Index:
			if err := m.erase(ctx, u, it); err != nil {
				m.sealer.again.Store(true)
				return err
			}
		}
		held[it.uid] = last.Index
	}
	if m.held = held; all {
		m.erased = last.Index
	}
	return nil
}

// allNow returns all AuditEvents that the API server has.
func (m *mirror) allNow(ctx context.Context) ([]unstructured.Unstructured, error) {
	var objects []unstructured.Unstructured
	list := new(unstructured.UnstructuredList)
	list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("AuditEventList"))
	for next := ""; ; {
		if err := m.direct.List(ctx, list, client.Limit(500), client.Continue(next)); err != nil {
			return nil, err
		}
		objects = append(objects, list.Items...)
		if next = list.GetContinue(); next == "" {
			return objects, nil
		}
	}
}

// erase takes an object from the cluster if its event was erased.
func (m *mirror) erase(ctx context.Context, u *unstructured.Unstructured, it item) error {
	line, err := m.ledger.at(ctx, it.index)
	gone := status(err) == http.StatusGone
	if err != nil && !gone {
		return err
	}
	if !gone && (line.Record.Erasable != nil || !hasContent(u)) {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.remove(ctx, it); err != nil || gone {
		return err
	}
	if m.owed == nil {
		m.owed = map[int64]bool{}
	}
	m.owed[it.index] = true
	return m.pay(ctx)
}

// pay makes the mirrors that are owed. m.mu must be held.
func (m *mirror) pay(ctx context.Context) error {
	for index := range m.owed {
		if err := m.make(ctx, index); err != nil {
			return err
		}
		delete(m.owed, index)
	}
	return nil
}

// hasContent reports whether an object has what can be erased from the ledger.
func hasContent(u *unstructured.Unstructured) bool {
	for _, field := range [][]string{{"details"}, {"original"}, {"error", "message"}} {
		if _, ok, _ := unstructured.NestedFieldNoCopy(u.Object, append([]string{"spec"}, field...)...); ok {
			return true
		}
	}
	return false
}
