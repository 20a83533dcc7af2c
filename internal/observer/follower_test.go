package observer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/capture"
)

// fakeAPI is an API server of one kind: a history of watch events.
type fakeAPI struct {
	dynamic.NamespaceableResourceInterface
	mu      sync.Mutex
	history []watch.Event
	rv      int
	changed chan struct{}
	// selector is the field selector of the last list.
	selector string
}

func (f *fakeAPI) Resource(schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return f
}
func (f *fakeAPI) Namespace(string) dynamic.ResourceInterface { return f }

// add has objects be added, modified or deleted.
func (f *fakeAPI) add(kind watch.EventType, all ...*unstructured.Unstructured) {
	var events []watch.Event
	for _, o := range all {
		events = append(events, watch.Event{Type: kind, Object: o})
	}
	f.happen(events...)
}

// happen has things happen at once.
func (f *fakeAPI) happen(events ...watch.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		f.rv++
		o := e.Object.(*unstructured.Unstructured).DeepCopy()
		o.SetResourceVersion(fmt.Sprint(f.rv))
		f.history = append(f.history, watch.Event{Type: e.Type, Object: o})
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// asked returns the field selector with which it was asked last.
func (f *fakeAPI) asked() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.selector
}

func (f *fakeAPI) List(_ context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.selector = o.FieldSelector
	l := &unstructured.UnstructuredList{}
	l.SetResourceVersion(fmt.Sprint(f.rv))
	live := map[string]*unstructured.Unstructured{}
	for _, e := range f.history {
		u := e.Object.(*unstructured.Unstructured)
		if live[string(u.GetUID())] = u; e.Type == watch.Deleted {
			delete(live, string(u.GetUID()))
		}
	}
	for _, u := range live {
		if o.FieldSelector != "" && o.FieldSelector != "metadata.name="+u.GetName() {
			continue
		}
		l.Items = append(l.Items, *u.DeepCopy())
	}
	return l, nil
}

func (f *fakeAPI) Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	var from int
	fmt.Sscan(o.ResourceVersion, &from)
	ch := make(chan watch.Event, 10000)
	w := watch.NewProxyWatcher(ch)
	go func() {
		defer close(ch)
		for {
			f.mu.Lock()
			events, changed := f.history[from:], f.changed
			from = len(f.history)
			f.mu.Unlock()
			for _, e := range events {
				ch <- watch.Event{Type: e.Type, Object: e.Object.DeepCopyObject()}
			}
			select {
			case <-changed:
			case <-w.StopChan():
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return w, nil
}

// sink takes events, and fails so often first.
type sink struct {
	mu     sync.Mutex
	fail   int
	events map[event.ID]*event.Event
	order  []*event.Event
	clash  []string
}

func (s *sink) RecordMany(_ context.Context, events ...*event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail > 0 {
		s.fail--
		return errors.New("no room")
	}
	for _, e := range events {
		e.Complete(time.Now())
		if err := e.Validate(time.Now()); err != nil {
			return err
		}
		if was := s.events[e.ID]; was != nil {
			if string(was.Details) != string(e.Details) || !was.Timestamp.Equal(e.Timestamp) {
				s.clash = append(s.clash, fmt.Sprintf("%s %s: %s / %s", e.EventType, e.Fact, was.Details, e.Details))
			}
			continue
		}
		s.events[e.ID] = e
		s.order = append(s.order, e)
	}
	return nil
}

func (s *sink) types() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, e := range s.order {
		all = append(all, e.EventType+"("+e.Fact+")")
	}
	return strings.Join(all, "\n")
}

// failing has the next calls fail.
func (s *sink) failing(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = n
}

func (s *sink) count(eventType string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.order {
		if e.EventType == eventType {
			n++
		}
	}
	return n
}

var things = capture.Resource{Group: "x.io", Version: "v1", Resource: "things"}

func program(t *testing.T, p capture.Policy) *capture.Program {
	t.Helper()
	if p.Name == "" {
		p.Name = "p"
	}
	p.At = capture.Watch
	p.Match.Resources = []capture.Resource{things}
	prog, err := capture.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

func story(t *testing.T) *capture.Program {
	return program(t, capture.Policy{
		Variables: []capture.Variable{{Name: "was", Expression: "oldObject == null ? '' : oldObject.?status.?state.orValue('')"}, {Name: "is", Expression: "object.?status.?state.orValue('')"}},
		Records: []capture.Record{
			{When: "oldObject == null", Event: map[string]string{"eventType": "'created'", "fact": "object.metadata.uid + '/created'"}},
			{When: "is != '' && is != was", Event: map[string]string{"eventType": "'state'", "fact": "object.metadata.uid + '/state/' + was + ' ' + is + ' ' + object.metadata.resourceVersion", "details": "{'from': was, 'to': is}"}},
			{When: "operation == 'DELETE'", Event: map[string]string{"eventType": "'deleted'", "fact": "oldObject.metadata.uid + '/deleted'"}},
		}})
}

func thing(uid, state string) *unstructured.Unstructured {
	o := map[string]any{"apiVersion": "x.io/v1", "kind": "Thing", "metadata": map[string]any{"name": uid, "namespace": "n", "uid": uid, "creationTimestamp": "1999-12-31T00:00:00Z"}}
	if state != "" {
		o["status"] = map[string]any{"state": state}
	}
	return &unstructured.Unstructured{Object: o}
}

// observe runs an observer until what is returned is called. Time is that of a bubble.
func observe(t *testing.T, api *fakeAPI, s Sender, dir string, programs ...*capture.Program) (stop func()) {
	t.Helper()
	o, err := New(Config{API: api, Sender: s, Dir: dir, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	o.Set(programs)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { _ = o.Start(ctx); close(done) }()
	time.Sleep(3 * flushPause)
	return func() { cancel(); <-done; synctest.Wait() }
}

func newAPI() *fakeAPI { return &fakeAPI{changed: make(chan struct{})} }
func newSink() *sink   { return &sink{events: map[event.ID]*event.Event{}} }

// settle gives an observer the time that it takes.
func settle() { time.Sleep(3 * flushPause) }

func TestWhatCameAndWentTogetherIsToldThoughTheSpoolFailedAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s := newAPI(), newSink()
		api.add(watch.Added, thing("old", ""))
		defer observe(t, api, s, t.TempDir(), story(t))()
		s.failing(1)
		api.happen(watch.Event{Type: watch.Added, Object: thing("a", "Failed")}, watch.Event{Type: watch.Deleted, Object: thing("a", "Failed")})
		settle()
		if s.count("created") != 2 || s.count("state") != 1 || s.count("deleted") != 1 || len(s.clash) > 0 {
			t.Errorf("recorded\n%s\nclash %q", s.types(), s.clash)
		}
	})
}

// A blocked sender takes nothing for now.
type blocked struct {
	sink *sink
	on   atomic.Bool
}

func (b *blocked) RecordMany(ctx context.Context, events ...*event.Event) error {
	if b.on.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return b.sink.RecordMany(ctx, events...)
}

func TestWhatWasDeletedWhileTheSpoolWasFullIsToldAfterARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s, dir := newAPI(), newSink(), t.TempDir()
		b := &blocked{sink: s}
		api.add(watch.Added, thing("a", "Running"))
		stop := observe(t, api, b, dir, story(t))
		b.on.Store(true)
		api.happen(watch.Event{Type: watch.Modified, Object: thing("a", "Failed")}, watch.Event{Type: watch.Deleted, Object: thing("a", "Failed")})
		settle()
		stop()
		b.on.Store(false)
		defer observe(t, api, b, dir, story(t))()
		if s.count("state") != 2 || s.count("deleted") != 1 || len(s.clash) > 0 {
			t.Errorf("recorded\n%s\nclash %q", s.types(), s.clash)
		}
	})
}

func TestAKillBeforeThePositionIsKeptTellsNothingTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s, dir := newAPI(), newSink(), t.TempDir()
		api.add(watch.Added, thing("a", "Running"))
		stop := observe(t, api, s, dir, story(t))
		position := filepath.Join(dir, "things.v1.x.io", positionFile)
		text, err := os.ReadFile(position)
		if err == nil {
			err = errors.Join(os.Remove(position), os.MkdirAll(filepath.Join(position, "in the way"), 0o700))
		}
		if err != nil {
			t.Fatal(err)
		}
		api.add(watch.Modified, thing("a", "Failed"))
		api.add(watch.Deleted, thing("a", "Failed"))
		settle()
		stop()
		if err := errors.Join(os.RemoveAll(position), os.WriteFile(position, text, 0o600)); err != nil {
			t.Fatal(err)
		}
		before := s.types()
		stop = observe(t, api, s, dir, story(t))
		if after := s.types(); s.count("deleted") != 1 || after != before || len(s.clash) > 0 {
			t.Errorf("before\n%s\nafter\n%s\nclash %q", before, after, s.clash)
		}
		// Nothing is known of it any more, once that is durable.
		settle()
		stop()
		st, err := openStore(dir, things)
		if err != nil || len(st.uids()) != 0 {
			t.Errorf("%v, %v", st.uids(), err)
		}
		if err := st.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAStateOfQuotesIsKeptInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s := newAPI(), newSink()
		defer observe(t, api, s, t.TempDir(), story(t))()
		a := thing("a", "")
		text := strings.Repeat("\"\\<\x01ü", 60_000)
		a.SetAnnotations(map[string]string{"x": text})
		api.add(watch.Added, a, thing("b", ""))
		settle()
		if s.count("created") != 2 {
			t.Fatalf("recorded\n%s", s.types())
		}
		whole := ""
		for _, e := range s.order {
			var d snapshot
			if e.EventType == typeSnapshot && e.Resource.Name == "a" && json.Unmarshal(e.Details, &d) == nil {
				whole += d.Object
			}
		}
		var o struct {
			Metadata struct{ Annotations map[string]string }
		}
		if err := json.Unmarshal([]byte(whole), &o); err != nil || o.Metadata.Annotations["x"] != text {
			t.Errorf("%d bytes are kept of it: %v", len(whole), err)
		}
	})
}

func TestNobodyHoldsBackWhatLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s := newAPI(), newSink()
		lasts := program(t, capture.Policy{Records: []capture.Record{{Lasts: time.Minute, Event: map[string]string{"eventType": "'stuck'", "fact": "object.metadata.uid + '/stuck'"}}}})
		changed := func(uid string, at time.Time) *unstructured.Unstructured {
			o, m := thing(uid, ""), metav1.NewTime(at)
			o.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "m", Operation: "Update", APIVersion: "x.io/v1", Time: &m, FieldsType: "FieldsV1"}})
			return o
		}
		defer observe(t, api, s, t.TempDir(), lasts)()
		api.add(watch.Added, changed("honest", time.Now()), changed("ahead", time.Now().AddDate(50, 0, 0)), changed("behind", time.Now().AddDate(-50, 0, 0)))
		time.Sleep(50 * time.Second)
		if n := s.count("stuck"); n != 0 {
			t.Errorf("%d have lasted a minute after 50 seconds", n)
		}
		time.Sleep(15 * time.Second)
		if n := s.count("stuck"); n != 3 {
			t.Errorf("%d of 3 have lasted a minute after 65 seconds", n)
		}
	})
}

func TestAFirstListThatFailsIsNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s := newAPI(), newSink()
		api.add(watch.Added, thing("a", ""), thing("b", ""))
		s.failing(1)
		defer observe(t, api, s, t.TempDir(), story(t))()
		settle()
		if s.count("CaptureGap") != 0 || s.count("created") != 2 {
			t.Errorf("recorded\n%s", s.types())
		}
	})
}

func TestWhatNoPolicyIsAboutIsNotKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s := newAPI(), newSink()
		one := program(t, capture.Policy{When: "object.metadata.name == 'mine'", Records: []capture.Record{{Event: map[string]string{"eventType": "'x'", "fact": "object.metadata.uid + string(object.metadata.resourceVersion)"}}}})
		defer observe(t, api, s, t.TempDir(), one)()
		for _, name := range []string{"mine", "theirs"} {
			api.add(watch.Added, thing(name, "token"))
			api.add(watch.Modified, thing(name, ""))
			api.add(watch.Deleted, thing(name, ""))
		}
		settle()
		kept := map[string]int{}
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, e := range s.order {
			if e.EventType == typeSnapshot {
				kept[e.Resource.Name]++
			}
		}
		if kept["mine"] < 2 || kept["theirs"] != 0 {
			t.Errorf("snapshots: %v", kept)
		}
	})
}

func TestWhatHappensAgainIsAnotherFact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s, dir := newAPI(), newSink(), t.TempDir()
		states := program(t, capture.Policy{Records: []capture.Record{{When: "oldObject != null && object.status.state != oldObject.?status.?state.orValue('')",
			Event: map[string]string{"eventType": "object.status.state", "fact": "object.metadata.uid + '/' + object.status.state", "details": "{'version': object.metadata.resourceVersion}"}}}})
		stop := observe(t, api, s, dir, states)
		api.add(watch.Added, thing("a", ""))
		for _, state := range []string{"Approved", "Rejected", "Approved"} {
			api.add(watch.Modified, thing("a", state))
		}
		settle()
		s.failing(1)
		api.add(watch.Modified, thing("a", "Rejected"))
		settle()
		stop()
		stop = observe(t, api, s, dir, states)
		api.add(watch.Modified, thing("a", "Approved"))
		settle()
		stop()
		var facts []string
		for _, e := range s.order {
			if e.EventType != typeSnapshot {
				facts = append(facts, e.Fact)
			}
		}
		if got, want := strings.Join(facts, ", "), "a/Approved, a/Rejected, a/Approved #2, a/Rejected #2, a/Approved #3"; got != want || len(s.clash) > 0 {
			t.Errorf("told %s, want %s, clash %q", got, want, s.clash)
		}
	})
}

// A ledger that is away does not know what it knows.
type away struct{ until time.Time }

func (a away) Snapshot(context.Context, event.Resource) ([]byte, error) {
	if time.Now().Before(a.until) {
		return nil, errors.New("away")
	}
	return nil, nil
}

func TestANewPolicySeesWhatHappensWhileTheLedgerIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s := newAPI(), newSink()
		api.add(watch.Added, thing("a", "Detected"))
		o, err := New(Config{API: api, Sender: s, Past: away{time.Now().Add(time.Minute)}, Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		o.Set([]*capture.Program{story(t)})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { _ = o.Start(ctx); close(done) }()
		defer func() { cancel(); <-done }()
		time.Sleep(10 * time.Second)
		for _, state := range []string{"Analyzing", "Remediating", "Resolved"} {
			api.add(watch.Modified, thing("a", state))
		}
		time.Sleep(2 * time.Minute)
		if n := s.count("state"); n != 4 || s.count("CaptureGap") != 0 {
			t.Errorf("%d states are told\n%s", n, s.types())
		}
	})
}

func TestWhatNoPolicyIsAboutIsNotReadAndIsThereOnceOneIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s, dir := newAPI(), newSink(), t.TempDir()
		only := func(names []string, except ...string) *capture.Program {
			p := story(t).Policy
			p.Match.Names, p.Match.ExceptNamespaces = names, except
			return program(t, p)
		}
		api.add(watch.Added, thing("mine", ""), thing("theirs", ""))
		on := func() string {
			st, err := openStore(dir, things)
			if err != nil {
				t.Fatal(err)
			}
			defer st.close()
			uids := st.uids()
			slices.Sort(uids)
			return strings.Join(uids, " ")
		}
		for _, step := range []struct {
			program *capture.Program
			kept    string
			created int
			asked   string // of the API server
		}{
			{only([]string{"mine"}), "mine", 1, "metadata.name=mine"},
			{only(nil), "mine theirs", 2, ""},
			{only(nil, "n"), "", 2, ""},
			{only([]string{"mine", "theirs"}), "mine theirs", 2, ""},
			{only([]string{"theirs"}), "theirs", 2, "metadata.name=theirs"},
		} {
			stop := observe(t, api, s, dir, step.program)
			settle()
			stop()
			if got := on(); got != step.kept || s.count("created") != step.created || s.count("deleted") != 0 || s.count("CaptureGap") != 0 || api.asked() != step.asked || len(s.clash) > 0 {
				t.Errorf("%+v: kept %q, asked %q, recorded\n%s\n%q", step.program.Policy.Match, got, api.asked(), s.types(), s.clash)
			}
		}
	})
}

func TestAPolicyThatComesMeanwhileLosesNothingOfWhatOthersAreAbout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s, dir := newAPI(), newSink(), t.TempDir()
		about := func(policy string, names ...string) *capture.Program {
			p := story(t).Policy
			p.Name, p.Match.Names = policy, names
			return program(t, p)
		}
		api.add(watch.Added, thing("mine", ""), thing("theirs", "old"))
		stop := observe(t, api, s, dir, about("p", "mine"))
		stop()
		for _, state := range []string{"Approved", "Rejected", "Approved"} {
			api.add(watch.Modified, thing("mine", state))
		}
		api.add(watch.Deleted, thing("mine", "Approved"))
		api.add(watch.Modified, thing("theirs", "new"))
		s.failing(1) // and what fails at first is tried again
		stop = observe(t, api, s, dir, about("p", "mine"), about("q", "theirs"))
		settle()
		stop()
		states := map[string]int{}
		for _, e := range s.order {
			if e.EventType == "state" {
				states[e.Resource.Name]++
			}
		}
		if states["mine"] != 3 || s.count("deleted") != 1 || states["theirs"] != 1 || s.count("CaptureGap") != 0 || len(s.clash) > 0 {
			t.Errorf("recorded\n%s\nclash %q", s.types(), s.clash)
		}
	})
}

// A small spool takes so many bytes at a time.
type small struct {
	*sink
	bytes int
}

func (s small) RecordMany(ctx context.Context, events ...*event.Event) error {
	n := 0
	for _, e := range events {
		n += len(e.AppendJSON(nil))
	}
	if n > s.bytes {
		return client.ErrTooLarge
	}
	return s.sink.RecordMany(ctx, events...)
}

func TestManyLargeResourcesAreRecordedInParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api, s := newAPI(), newSink()
		for i := range 200 {
			large := thing(fmt.Sprint("t", i), "")
			large.SetAnnotations(map[string]string{"x": strings.Repeat("x", 50_000)})
			api.add(watch.Added, large)
		}
		defer observe(t, api, small{s, 1 << 20}, t.TempDir(), story(t))()
		settle()
		if s.count("created") != 200 || s.count(typeSnapshot) != 200 {
			t.Errorf("%d of 200 created", s.count("created"))
		}
	})
}
