package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/admission"
	"github.com/graven-audit/graven/internal/capture"
	"github.com/graven-audit/graven/internal/observer"
	"github.com/graven-audit/graven/internal/spool"
)

// issues is what is captured here.
var issues = capture.Resource{Group: "platform.chatcli.io", Version: "v1alpha1", Resource: "issues"}

// issuesPolicy has an event for each state of an Issue.
func issuesPolicy(at string) (*capture.Program, error) {
	return capture.Compile(capture.Policy{Name: "issues", At: at, Match: capture.Match{Resources: []capture.Resource{issues}},
		Variables: []capture.Variable{{Name: "is", Expression: "object.?status.?state.orValue('')"}, {Name: "was", Expression: "oldObject == null ? '' : oldObject.?status.?state.orValue('')"}},
		Records: []capture.Record{{When: "is != was", Event: map[string]string{"eventType": "'IssueResolved'", "fact": "object.metadata.uid + '/' + object.metadata.resourceVersion",
			"correlationID": "object.metadata.name", "details": "{'from': was, 'to': is}"}}}})
}

// issue is one as the API server has it, of about 2 KB.
func issue(n, version int) map[string]any {
	return map[string]any{"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "Issue",
		"metadata": map[string]any{"name": fmt.Sprint("issue-", n), "namespace": "production", "uid": fmt.Sprintf("00000000-0000-4000-8000-%012d", n), "resourceVersion": strconv.Itoa(version),
			"creationTimestamp": "2026-03-19T14:00:00Z", "managedFields": []any{map[string]any{"manager": "chatcli", "operation": "Update", "time": "2026-03-19T14:01:00Z", "fieldsType": "FieldsV1",
				"fieldsV1": map[string]any{"f:status": map[string]any{"f:state": map[string]any{}, "f:resolution": map[string]any{}}}}}},
		"spec":   map[string]any{"severity": "high", "signalType": "oom_kill", "description": string(bytes.Repeat([]byte("the heap is full; "), 40))},
		"status": map[string]any{"state": fmt.Sprint("State", version), "resolution": string(bytes.Repeat([]byte("more memory; "), 40))}}
}

// watched is an API server that has some Issues, and changes as many as it is asked to.
type watched struct {
	*httptest.Server
	objects int
	changes chan int // how many more changes to send
}

func watch(objects int) *watched {
	w := &watched{objects: objects, changes: make(chan int)}
	w.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		out := json.NewEncoder(rw)
		rw.Header().Set("Content-Type", "application/json")
		if r.URL.Query().Get("watch") == "" {
			items := make([]any, objects)
			for i := range items {
				items[i] = issue(i, i+1)
			}
			_ = out.Encode(map[string]any{"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "IssueList", "metadata": map[string]any{"resourceVersion": strconv.Itoa(objects)}, "items": items})
			return
		}
		if r.URL.Query().Get("sendInitialEvents") == "true" {
			for i := range objects {
				_ = out.Encode(map[string]any{"type": "ADDED", "object": issue(i, i+1)})
			}
			_ = out.Encode(map[string]any{"type": "BOOKMARK", "object": map[string]any{"apiVersion": "platform.chatcli.io/v1alpha1", "kind": "Issue",
				"metadata": map[string]any{"resourceVersion": strconv.Itoa(objects), "annotations": map[string]any{"k8s.io/initial-events-end": "true"}}}})
		}
		rw.(http.Flusher).Flush()
		version := objects
		for {
			select {
			case n := <-w.changes:
				for range n {
					version++
					_ = out.Encode(map[string]any{"type": "MODIFIED", "object": issue(version%objects, version)})
				}
				rw.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	return w
}

func (w *watched) api() (dynamic.Interface, error) {
	return dynamic.NewForConfig(&rest.Config{Host: w.URL, QPS: -1})
}

// counted puts events into a spool, and counts them.
type counted struct {
	spool  *spool.Spool
	events atomic.Int64
}

// RecordMany implements [observer.Sender].
func (c *counted) RecordMany(ctx context.Context, events ...*event.Event) error {
	items := make([][]byte, len(events))
	for i, e := range events {
		items[i] = e.AppendJSON(nil)
	}
	_, err := c.spool.Put(ctx, true, items...)
	if err == nil {
		c.events.Add(int64(len(events)))
	}
	return err
}

// openSpool opens a spool as recorders have, of which nothing is delivered.
func openSpool(dir string) (*counted, error) {
	s, err := spool.Open(filepath.Join(dir, "spool"), spool.Options{MaxBytes: 4 << 30})
	return &counted{spool: s}, err
}

// live returns the memory in use, in bytes.
func live() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// watchedObjects are the resources that contenders follow.
const watchedObjects = 5000

// follow measures how fast changes are taken, and the memory for each object.
// begin starts a contender, and taken returns how many changes it has taken.
func follow(r run, begin func(ctx context.Context, w *watched) (taken func() int64, err error)) (Sample, error) {
	var s Sample
	w := watch(watchedObjects)
	defer w.Close()
	defer w.CloseClientConnections()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := live()
	taken, err := begin(ctx, w)
	if err != nil {
		return s, err
	}
	await := func(n int64) error {
		for end := time.Now().Add(2 * time.Minute); taken() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				return fmt.Errorf("%d of %d changes were taken", taken(), n)
			}
		}
		return nil
	}
	if err := await(watchedObjects); err != nil {
		return s, err
	}
	time.Sleep(2 * time.Second) // what it took to begin is done with
	s.Notes = map[string]float64{"B/object": (live() - before) / watchedObjects}
	done := int64(watchedObjects)
	m := startMeter()
	for end := time.Now().Add(r.Duration); time.Now().Before(end); {
		w.changes <- 1000
		if done += 1000; done > 2*watchedObjects { // one part is on its way while another is taken
			if err := await(done - 1000); err != nil {
				return s, err
			}
		}
	}
	if err := await(done); err != nil {
		return s, err
	}
	m.stop(&s)
	s.Ops = done - watchedObjects
	return s, nil
}

// observing captures: an event and a snapshot for each change, durable in a spool.
func observing(r run) (Sample, error) {
	dir, err := os.MkdirTemp(r.Dir, "seen-")
	if err != nil {
		return Sample{}, err
	}
	return follow(r, func(ctx context.Context, w *watched) (func() int64, error) {
		api, err := w.api()
		if err != nil {
			return nil, err
		}
		sender, err := openSpool(dir)
		if err != nil {
			return nil, err
		}
		o, err := observer.New(observer.Config{API: api, Sender: sender, Dir: filepath.Join(dir, "seen")})
		if err != nil {
			return nil, err
		}
		program, err := issuesPolicy(capture.Watch)
		if err != nil {
			return nil, err
		}
		o.Set([]*capture.Program{program})
		go func() { _ = o.Start(ctx) }()
		return func() int64 { return sender.events.Load() / 2 }, nil
	})
}

// informing keeps a cache of the same, as controllers do, and records nothing.
func informing(r run) (Sample, error) {
	return follow(r, func(ctx context.Context, w *watched) (func() int64, error) {
		api, err := w.api()
		if err != nil {
			return nil, err
		}
		var taken atomic.Int64
		informer := dynamicinformer.NewDynamicSharedInformerFactory(api, 0).ForResource(schema.GroupVersionResource(issues)).Informer()
		_, err = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(any) { taken.Add(1) }, UpdateFunc: func(any, any) { taken.Add(1) }})
		if err != nil {
			return nil, err
		}
		go informer.Run(ctx.Done())
		return taken.Load, nil
	})
}

// asking sends AdmissionReviews as they come, and measures how long each answer takes.
func asking(r run, h http.Handler) (Sample, error) {
	var s Sample
	srv := httptest.NewServer(h)
	defer srv.Close()
	reviews := func(n int) []byte {
		old, now := issue(n, 1), issue(n, 2)
		text, err := json.Marshal(map[string]any{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": map[string]any{"uid": fmt.Sprint("r", n), "operation": "UPDATE", "namespace": "production", "name": fmt.Sprint("issue-", n),
			"kind": map[string]any{"group": issues.Group, "version": issues.Version, "kind": "Issue"}, "resource": map[string]any{"group": issues.Group, "version": issues.Version, "resource": issues.Resource},
			"userInfo": map[string]any{"username": "jane", "groups": []string{"sre"}}, "object": now, "oldObject": old}})
		if err != nil {
			panic(err)
		}
		return text
	}
	var all []time.Duration
	m := startMeter()
	pace := time.NewTicker(time.Second / time.Duration(r.Rate))
	defer pace.Stop()
	for n, end := 0, time.Now().Add(r.Duration); time.Now().Before(end); n++ {
		body := reviews(n)
		<-pace.C
		began := time.Now()
		resp, err := srv.Client().Post(srv.URL+"/secret/issues", "application/json", bytes.NewReader(body))
		if err != nil {
			return s, err
		}
		var answer admissionv1.AdmissionReview
		err = json.NewDecoder(resp.Body).Decode(&answer)
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || answer.Response == nil || !answer.Response.Allowed {
			return s, fmt.Errorf("answered %+v, %w", answer.Response, err)
		}
		all = append(all, time.Since(began))
	}
	m.stop(&s)
	s.Ops = int64(len(all))
	s.latencies(all)
	return s, nil
}

// recordingWebhook records who asks, durably, before it answers.
func recordingWebhook(r run) (Sample, error) {
	dir, err := os.MkdirTemp(r.Dir, "asked-")
	if err != nil {
		return Sample{}, err
	}
	sender, err := openSpool(dir)
	if err != nil {
		return Sample{}, err
	}
	program, err := issuesPolicy(capture.Admission)
	if err != nil {
		return Sample{}, err
	}
	s := admission.New(admission.Config{Kept: sender, Ledger: sender, Key: make([]byte, 32), Secrets: func() []string { return []string{"secret"} }})
	s.Set([]*capture.Program{program})
	sample, err := asking(r, s)
	if n := sender.events.Load(); err == nil && n != sample.Ops {
		err = fmt.Errorf("%d events of %d requests", n, sample.Ops)
	}
	return sample, err
}

// bareWebhook reads what it is asked, and allows it.
func bareWebhook(r run) (Sample, error) {
	return asking(r, http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(q.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		review.Request = nil
		_ = json.NewEncoder(w).Encode(review)
	}))
}
