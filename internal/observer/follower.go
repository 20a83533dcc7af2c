package observer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

// A follower follows one kind of resources.
type follower struct {
	api    dynamic.ResourceInterface
	store  *store
	counts *counts
	judge  *judge
	sender Sender
	past   Past
	key    []byte
	log    *slog.Logger
	// says is told whether the kind is followed.
	says   func(error)
	saw    func([]*change)
	missed prometheus.Counter
	// at is where it is.
	at *position
	// due is when it is to be looked how long a state has lasted, by uid; nil before it is
	// known of those that there are.
	due map[string]time.Time
	// caught is set once all is known that happened until the watch began.
	caught bool
	// knew is set if something was known of a resource before this operator began.
	knew bool
}

const (
	// maxBatch bounds the changes that are recorded together.
	maxBatch = 256
	// maxPage is how many resources are asked for at a time.
	maxPage = 500
	// firstPause and lastPause are between attempts, twice as long each time.
	firstPause = 250 * time.Millisecond
	lastPause  = 30 * time.Second
	// pastPause is between questions to a ledger that is away.
	pastPause = time.Second
	// maxSilence is how long a watch goes on before it is begun anew.
	maxSilence = 10 * time.Minute
)

// errExpired means that the API server has forgotten the states since the position.
var errExpired = errors.New("the API server does not know any more what happened since")

// run follows the kind until ctx ends.
func (f *follower) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil { // a watch has its time
			pause = firstPause
			continue
		}
		f.says(err)
		if time.Since(began) > lastPause {
			pause = firstPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longest(err))
	}
}

// longest returns how long to wait after an error at most. What an API server that is
// away has seen may be forgotten when it is back.
func longest(err error) time.Duration {
	if apierrors.ReasonForError(err) == metav1.StatusReasonUnknown {
		return 2 * time.Second
	}
	return lastPause
}

// follow watches from the position on, until the watch ends.
func (f *follower) follow(ctx context.Context) (err error) {
	if f.at == nil {
		at, err := f.store.position()
		if err != nil {
			return fmt.Errorf("read how far it was followed: %w", err)
		}
		if at == nil {
			err = f.sync(ctx, "")
		} else {
			err = f.introduce(ctx, at)
		}
		if err != nil {
			return err
		}
	}
	err = f.watch(ctx)
	if errors.Is(err, errExpired) {
		f.log.Warn("states were not seen", "resources", f.judge.kind.Resource, "since", f.at.At)
		err = f.sync(ctx, errExpired.Error())
	}
	return err
}

// expired reports whether an API server's answer means that a resourceVersion is none
// of those that it knows: too old, or of another time line.
func expired(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || err != nil && strings.Contains(err.Error(), "Too large resource version")
}

func (f *follower) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// An API server that was set back keeps who comes from its future waiting.
	list, err := f.api.List(ctx, f.options(metav1.ListOptions{Limit: 1}))
	if err != nil {
		return fmt.Errorf("list: %w", err)
	}
	newest := list.GetResourceVersion()
	if later(f.at.ResourceVersion, newest) {
		return errExpired
	}
	seconds := int64(maxSilence.Seconds())
	w, err := f.api.Watch(ctx, f.options(metav1.ListOptions{ResourceVersion: f.at.ResourceVersion, AllowWatchBookmarks: true, TimeoutSeconds: &seconds}))
	if expired(err) {
		return errExpired
	}
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer w.Stop()
	f.says(nil)
	defer func() {
		if err := f.flush(f.at); err != nil {
			f.log.Warn("what was seen is seen again", "error", err)
		}
	}()
	arrived := make(chan watch.Event, maxBatch) // read ahead, so that many are recorded together
	go func() {
		defer close(arrived)
		for e := range w.ResultChan() {
			select {
			case arrived <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(flushPause)
	defer tick.Stop()
	f.caught = !later(newest, f.at.ResourceVersion)
	quiet := false
	for {
		var batch []watch.Event
		select {
		case e, ok := <-arrived:
			if !ok {
				return ctx.Err()
			}
			batch = append(batch, e)
		case <-tick.C: // nothing more comes for now
			f.caught, quiet = f.caught || quiet, true
			if f.caught { // else it is not known whether a state has lasted
				if err := f.look(ctx); err != nil {
					return err
				}
			}
			if len(f.store.changed) > 0 {
				if err := f.flush(f.at); err != nil {
					return err
				}
			}
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		for open := true; open && len(batch) < maxBatch; {
			select {
			case e, ok := <-arrived:
				if open = ok; ok {
					batch = append(batch, e)
				}
			default:
				open = false
			}
		}
		if err := f.take(ctx, batch); err != nil {
			return err
		}
		f.caught, quiet = f.caught || !later(newest, f.at.ResourceVersion), false
	}
}

// take records what a part of the watch has.
func (f *follower) take(ctx context.Context, batch []watch.Event) error {
	at := *f.at
	var changes []*change
	for _, e := range batch {
		if e.Type == watch.Error {
			err := apierrors.FromObject(e.Object)
			if expired(err) {
				err = errExpired
			}
			if len(changes) > 0 { // else nothing is known of the time until now
				if failed := f.record(ctx, changes, true, &at); failed != nil {
					return failed
				}
			}
			return err
		}
		u, ok := e.Object.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("watch: %T in the place of a resource", e.Object)
		}
		at.ResourceVersion = u.GetResourceVersion()
		if e.Type != watch.Bookmark {
			changes = append(changes, f.change(u, e.Type == watch.Deleted))
		}
	}
	return f.record(ctx, changes, true, &at)
}

// change returns a resource's state as it is kept.
func (f *follower) change(u *unstructured.Unstructured, deleted bool) *change {
	c := &change{uid: string(u.GetUID()), version: u.GetResourceVersion(), namespace: u.GetNamespace(), deleted: deleted, at: u.GetCreationTimestamp().Time}
	for _, m := range u.GetManagedFields() {
		if m.Time != nil && m.Time.After(c.at) {
			c.at = m.Time.Time
		}
	}
	if d := u.GetDeletionTimestamp(); d != nil && d.After(c.at) && (deleted || !d.After(f.judge.now())) {
		c.at = d.Time
	}
	c.now = capture.Clean(u.Object, f.key)
	return c
}

// record records changes, and then moves on. ordered is set if they come in the order
// in which they happened.
func (f *follower) record(ctx context.Context, changes []*change, ordered bool, at *position) error {
	states := map[string]*state{}
	var events []*event.Event
	for _, c := range changes {
		if !f.wants(c.namespace, c.name()) {
			continue
		}
		before, ok := states[c.uid]
		if !ok {
			var err error
			if before, err = f.before(ctx, c, ordered); err != nil {
				return err
			}
		}
		if before != nil && before.Version != "" && ordered && c.fresh == nil && !later(c.version, before.Version) {
			continue // it was seen before
		}
		if c.deleted {
			if err := f.dies(c); err != nil {
				return err
			}
		}
		if before != nil && before.Object == nil { // all that is known is that, or when, it went
			before = nil
		}
		if c.since.IsZero() {
			c.since = f.since(c)
		}
		t, err := f.judge.judge(ctx, c, before)
		if err != nil {
			return err
		}
		states[c.uid] = t.next
		events = append(events, t.events...)
	}
	for part := range slices.Chunk(events, maxBatch) {
		if err := client.RecordInParts(ctx, f.sender, part...); err != nil {
			return fmt.Errorf("record what was seen: %w", err)
		}
	}
	for uid, st := range states {
		f.store.put(uid, st)
		if f.due != nil {
			f.due[uid] = time.Time{} // which may be another now
		}
	}
	if ordered {
		f.saw(changes)
	}
	if at != nil {
		if f.caught { // what comes before is of the past
			at.At = f.judge.now().UTC()
		}
		f.at = at
	}
	if f.store.due(f.judge.now()) {
		return f.flush(at)
	}
	return nil
}

// since returns from when on a state lasts: when the resource says that it was changed, to
// the second, as far as that can be, for whoever may change it may say anything.
func (f *follower) since(c *change) time.Time {
	at := c.at
	if f.at != nil && at.Before(f.at.At.Truncate(time.Second)) && !c.derived && c.fresh == nil {
		at = f.at.At
	}
	if now := f.judge.now().UTC(); at.After(now) {
		at = now
	}
	return at
}

// look records what there is to say of states that have lasted.
func (f *follower) look(ctx context.Context) error {
	if !slices.ContainsFunc(f.judge.programs, (*capture.Program).Lasts) {
		return nil
	}
	if f.due == nil {
		f.due = map[string]time.Time{}
		for _, uid := range f.store.uids() {
			f.due[uid] = time.Time{}
		}
	}
	now := f.judge.now()
	for uid, due := range f.due {
		if due.After(now) {
			continue
		}
		kept, err := f.store.get(uid)
		if err != nil {
			return err
		}
		if kept == nil || kept.Object == nil {
			delete(f.due, uid)
			continue
		}
		st := *kept
		events, again, err := f.judge.lasted(ctx, &st, now)
		if err == nil && len(events) > 0 {
			err = client.RecordInParts(ctx, f.sender, events...)
		}
		if err != nil {
			return fmt.Errorf("record that a state has lasted: %w", err)
		}
		if len(events) > 0 {
			f.store.put(uid, &st)
		}
		if delete(f.due, uid); !again.IsZero() {
			f.due[uid] = again
		}
	}
	return nil
}

// flush has on disk what is in memory, the position last.
func (f *follower) flush(at *position) error {
	if err := f.counts.write(f.judge.now()); err != nil {
		return fmt.Errorf("keep what was counted: %w", err)
	}
	if err := f.store.flush(at, f.judge.now()); err != nil {
		return fmt.Errorf("keep what was seen: %w", err)
	}
	return nil
}

// before returns the state before a change. What was there when following began may
// be known to the ledger.
func (f *follower) before(ctx context.Context, c *change, ordered bool) (*state, error) {
	before, err := f.store.get(c.uid)
	if before != nil {
		f.knew = true
	}
	if before != nil || err != nil || ordered || f.past == nil {
		return before, err
	}
	// The states that follow are told once it is known: the API server remembers them.
	var text []byte
	for {
		if text, err = f.past.Snapshot(ctx, about(c.now)); err == nil {
			break
		}
		f.says(fmt.Errorf("ask the ledger what it knows: %w", err))
		select {
		case <-time.After(pastPause):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if text == nil {
		return nil, nil
	}
	st := &state{UID: c.uid}
	if err := json.Unmarshal(text, &st.Object); err != nil {
		return nil, fmt.Errorf("read the snapshot of %s: %w", c.uid, err)
	}
	st.Snapshot, f.knew = digestOf(st.Object), true
	return st, nil
}

// dies has the time at which a resource went be the same whenever it is told. What was
// recorded of it before stays as it is until then: all that has happened since is told
// again, if it must.
func (f *follower) dies(c *change) error {
	if _, ending, _ := unstructured.NestedString(c.now, "metadata", "deletionTimestamp"); ending {
		return nil // it says so itself
	}
	kept, err := f.store.get(c.uid)
	if err != nil {
		return err
	}
	if kept != nil && !kept.Gone.IsZero() {
		c.at = kept.Gone
		return nil
	}
	gone := state{UID: c.uid}
	if kept != nil {
		gone = *kept
	}
	gone.Gone = f.judge.now().UTC()
	c.at = gone.Gone
	f.store.put(c.uid, &gone)
	return f.store.write(map[string]*state{c.uid: &gone})
}

// each calls a function for all states that are kept.
func (f *follower) each(fn func(*state) error) error {
	for _, uid := range f.store.uids() {
		st, err := f.store.get(uid)
		if err == nil && st != nil && st.Object != nil {
			err = fn(st)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// sync reads all resources, and records how they differ from what was seen last.
// reason is why states in between may be lost; empty if it is the first time, unless
// something is known of a resource.
func (f *follower) sync(ctx context.Context, reason string) error {
	was := f.at
	if was == nil {
		was = &position{}
	}
	seen := map[string]bool{}
	next := ""
	at := &position{Policies: namesOf(f.judge.programs), Scope: f.scope()}
	for {
		list, err := f.api.List(ctx, f.options(metav1.ListOptions{Limit: maxPage, Continue: next}))
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		var changes []*change
		for i := range list.Items {
			c := f.change(&list.Items[i], false)
			c.derived = true
			seen[c.uid] = true
			changes = append(changes, c)
		}
		if at.ResourceVersion == "" {
			at.ResourceVersion = list.GetResourceVersion() // of the first page, which is that of all
		}
		if err := f.record(ctx, changes, false, nil); err != nil {
			return err
		}
		if next = list.GetContinue(); next == "" {
			break
		}
	}
	err := f.each(func(st *state) error {
		u := unstructured.Unstructured{Object: st.Object}
		if !f.wants(u.GetNamespace(), u.GetName()) {
			f.store.put(st.UID, nil)
			return nil
		}
		if seen[st.UID] {
			return nil
		}
		c := &change{uid: st.UID, version: st.Version, namespace: u.GetNamespace(), now: st.Object, deleted: true, derived: true}
		return f.record(ctx, []*change{c}, false, nil)
	})
	if err != nil {
		return err
	}
	if reason == "" && f.knew {
		reason = "where it stopped is lost"
	}
	if reason != "" {
		if err := f.gap(ctx, was, reason); err != nil {
			return err
		}
	}
	at.At = f.judge.now().UTC()
	f.at = at
	return f.flush(at)
}

// gap records that states came and went that were not seen.
func (f *follower) gap(ctx context.Context, was *position, reason string) error {
	now := f.judge.now().UTC()
	name := f.judge.kind.Resource
	if f.judge.kind.Group != "" {
		name += "." + f.judge.kind.Group
	}
	e := &event.Event{EventType: "CaptureGap", Timestamp: now, Cluster: f.judge.cluster, Actor: event.Actor{Type: event.ActorService, Name: "graven-operator"},
		Resource: event.Resource{Kind: "CustomResourceDefinition", Name: name}, Fact: "CaptureGap/" + name + "/" + was.ResourceVersion}
	if err := e.SetDetails(map[string]string{"resources": name, "since": event.FormatTime(was.At), "until": event.FormatTime(now), "reason": reason}); err != nil {
		return err
	}
	e.ID = event.DeriveID("capture", f.judge.cluster, e.Fact, event.FormatTime(now)).Reserve()
	if err := f.sender.RecordMany(ctx, e); err != nil {
		return fmt.Errorf("record a gap: %w", err)
	}
	f.missed.Inc()
	return nil
}

// why returns in a word why a kind cannot be followed, for a condition.
func why(err error) string {
	switch {
	case err == nil:
		return "Watching"
	case apierrors.IsNotFound(err) || meta.IsNoMatchError(err):
		return "NotInstalled"
	case apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err):
		return "Forbidden"
	}
	return "Failed"
}
