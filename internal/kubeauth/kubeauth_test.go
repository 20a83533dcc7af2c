package kubeauth_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/kubeauth"
)

// A twin is an API server that says what a real one cannot be made to say.
type twin struct {
	asked atomic.Int64
	// mu guards answers: questions that were given up are still being answered.
	mu      sync.Mutex
	answers func(path string, body map[string]any) (status int, text string)
}

// say has it answer otherwise from now on.
func (w *twin) say(answers func(string, map[string]any) (int, string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = answers
}

func (w *twin) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	w.asked.Add(1)
	var body map[string]any
	text, _ := io.ReadAll(r.Body)
	if len(text) > 0 {
		if err := json.Unmarshal(text, &body); err != nil {
			http.Error(out, err.Error(), http.StatusBadRequest)
			return
		}
	}
	w.mu.Lock()
	answers := w.answers
	w.mu.Unlock()
	status, answer := answers(r.URL.Path, body)
	out.WriteHeader(status)
	io.WriteString(out, answer)
}

// open returns an authenticator that asks a twin, and its metrics.
func open(t *testing.T, w *twin, cache time.Duration) (*kubeauth.Authenticator, *prometheus.Registry) {
	t.Helper()
	s := httptest.NewTLSServer(w)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	c := kubeauth.Config{Enabled: true, URL: s.URL, CAFile: filepath.Join(dir, "ca.crt"), TokenFile: filepath.Join(dir, "token"), Cache: cache}
	for name, text := range map[string][]byte{c.CAFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), c.TokenFile: []byte("own\n")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Complete(); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	a, err := kubeauth.New(c, kubeauth.NewMetrics(registry))
	if err != nil {
		t.Fatal(err)
	}
	return a, registry
}

// cluster answers as an API server where a user may do what may says: verb,
// subresource and namespace.
func cluster(user string, may ...string) func(string, map[string]any) (int, string) {
	return func(path string, body map[string]any) (int, string) {
		switch path {
		case "/apis/authentication.k8s.io/v1/tokenreviews":
			if body["spec"].(map[string]any)["token"] != "good" {
				return 201, `{"status":{"authenticated":false,"error":"no"}}`
			}
			name, _ := json.Marshal(user)
			return 201, `{"status":{"authenticated":true,"user":{"username":` + string(name) + `,"uid":"7","groups":["a","b"],"extra":{"x/y":["z"]}}}}`
		case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
			spec := body["spec"].(map[string]any)
			if fmt.Sprint(spec["user"], spec["uid"], spec["groups"], spec["extra"]) != user+"7[a b] map[x/y:[z]]" {
				return 500, "who?"
			}
			at := spec["resourceAttributes"].(map[string]any)
			asked := strings.TrimSpace(fmt.Sprint(at["verb"], "/", or(at["subresource"]), "/", or(at["namespace"])))
			return 201, fmt.Sprintf(`{"status":{"allowed":%t}}`, slices.Contains(may, asked))
		case "/api/v1/namespaces":
			return 200, `{"metadata":{},"items":[{"metadata":{"name":"dev"}},{"metadata":{"name":"prod"}}]}`
		}
		return 404, "what?"
	}
}

func or(v any) string {
	s, _ := v.(string)
	return s
}

func TestWhatAUserMayDoIsAskedOnceForAllTheirTokens(t *testing.T) {
	t.Parallel()
	w := &twin{}
	var reviews atomic.Int64
	w.answers = func(path string, body map[string]any) (int, string) {
		switch path {
		case "/apis/authentication.k8s.io/v1/tokenreviews":
			token := body["spec"].(map[string]any)["token"].(string)
			user := strings.TrimRight(token, "0123456789")
			return 201, fmt.Sprintf(`{"status":{"authenticated":true,"user":{"username":%q,"extra":{"authentication.kubernetes.io/credential-id":[%q]}}}}`, user, token)
		case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
			reviews.Add(1)
		}
		return cluster("")(path, map[string]any{"spec": map[string]any{"user": "", "uid": "7", "groups": []any{"a", "b"}, "extra": map[string]any{"x/y": []any{"z"}}, "resourceAttributes": map[string]any{}}})
	}
	a, _ := open(t, w, time.Minute)
	for n := range 10 {
		if p, err := a.Authenticate(t.Context(), fmt.Sprint("jane", n), access.Read); err != nil || p.Name != "jane" {
			t.Fatal(p, err)
		}
	}
	once := reviews.Load()
	if once == 0 || once > 10 { // of all permissions, and of two namespaces
		t.Errorf("asked %d times", once)
	}
	if _, err := a.Authenticate(t.Context(), "john0", access.Read); err != nil || reviews.Load() != 2*once {
		t.Errorf("asked %d times for two users, %d times for one (%v)", reviews.Load(), once, err)
	}
}

// TestAnAnswerIsBelievedFromWhenItWasAskedFor: one that took longer than it is to be
// believed is not remembered.
func TestAnAnswerIsBelievedFromWhenItWasAskedFor(t *testing.T) {
	t.Parallel()
	const cache = 50 * time.Millisecond
	w := &twin{}
	known := cluster("jane", "list//prod")
	w.answers = func(path string, body map[string]any) (int, string) {
		if strings.HasSuffix(path, "subjectaccessreviews") {
			time.Sleep(2 * cache)
		}
		return known(path, body)
	}
	a, _ := open(t, w, cache)
	for range 2 {
		before := w.asked.Load()
		if p, err := a.Authenticate(t.Context(), "good", access.Read); err != nil || !slices.Equal(p.Namespaces, []string{"prod"}) {
			t.Fatal(p, err)
		}
		if w.asked.Load() < before+2 { // of two namespaces
			t.Error("it was not asked again")
		}
	}
}

func TestPermissionsFollowFromVerbs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		may           []string
		need          access.Permission
		can           string
		sees, records []string
		attests       bool
	}{
		{nil, access.Read, "", nil, nil, false},
		{[]string{"list//"}, access.Read, "read export verify", nil, nil, false},
		{[]string{"list//prod"}, access.Read, "read export verify", []string{"prod"}, nil, false},
		{[]string{"list//prod"}, access.Export, "read export verify", []string{"prod"}, nil, false},
		{[]string{"list//prod"}, access.Record, "", nil, nil, false},
		{[]string{"create//"}, access.Record, "record", nil, nil, false},
		{[]string{"create//dev"}, access.Record, "record", nil, []string{"dev"}, false},
		{[]string{"create/accessreviews/"}, access.Read, "access", nil, nil, false},
		{[]string{"create/tokens/", "create/legalholds/", "create/erasures/"}, access.Read, "tokens hold erase", nil, nil, false},
		{[]string{"create/attestations/", "create//"}, access.Record, "record", nil, nil, true},
	} {
		a, _ := open(t, &twin{answers: cluster("jane", c.may...)}, time.Minute)
		p, err := a.Authenticate(t.Context(), "good", c.need)
		if err != nil {
			t.Fatal(err)
		}
		for _, perm := range []access.Permission{access.Read, access.Export, access.Verify, access.Record, access.ReadAccess, access.ManageToken, access.Hold, access.Erase} {
			if want := slices.Contains(strings.Fields(c.can), string(perm)); p.Can(perm) != want {
				t.Errorf("%v: %s is %t", c.may, perm, !want)
			}
		}
		if !slices.Equal(p.Namespaces, c.sees) || !slices.Equal(p.RecordsIn, c.records) || p.Attests != c.attests || p.Name != "jane" || p.Via != "tokenreview" {
			t.Errorf("%v: %+v", c.may, p)
		}
	}
}

func TestWhatCannotBeAskedIsNoRefusal(t *testing.T) {
	t.Parallel()
	good := cluster("jane", "list//")
	for what, answers := range map[string]func(string, map[string]any) (int, string){
		"an error":                 func(string, map[string]any) (int, string) { return 500, "away" },
		"not the right":            func(string, map[string]any) (int, string) { return 403, `{"kind":"Status"}` },
		"no JSON":                  func(string, map[string]any) (int, string) { return 201, "<html>" },
		"no status":                func(string, map[string]any) (int, string) { return 201, "{}" },
		"an answer without an end": func(string, map[string]any) (int, string) { return 201, strings.Repeat(" ", 5<<20) },
		"no answer about access": func(path string, body map[string]any) (int, string) {
			if strings.Contains(path, "subjectaccess") {
				return 500, "away"
			}
			return good(path, body)
		},
	} {
		w := &twin{answers: answers}
		a, _ := open(t, w, time.Minute)
		if p, err := a.Authenticate(t.Context(), "good", access.Read); err == nil || errors.Is(err, access.ErrToken) {
			t.Errorf("%s: %v, %v", what, p, err)
		}
		w.say(good)
		if _, err := a.Authenticate(t.Context(), "good", access.Read); err != nil {
			t.Errorf("%s is remembered: %v", what, err)
		}
	}
}

func TestATokenThatIsNotValidIsRefused(t *testing.T) {
	t.Parallel()
	w := &twin{answers: cluster("jane", "list//")}
	a, registry := open(t, w, time.Minute)
	for range 3 {
		if _, err := a.Authenticate(t.Context(), "bad", access.Read); !errors.Is(err, access.ErrToken) {
			t.Fatal(err)
		}
	}
	if n := w.asked.Load(); n != 1 {
		t.Errorf("it was asked for %d times", n)
	}
	if _, err := a.Authenticate(t.Context(), strings.Repeat("x", 64<<10), access.Read); !errors.Is(err, access.ErrToken) {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(registry, "graven_kubernetes_reviews_total"); n != 6 {
		t.Errorf("%d series", n)
	}
	for _, name := range []string{"", strings.Repeat("x", 600), "a\nb"} {
		a, _ := open(t, &twin{answers: cluster(name, "list//")}, time.Minute)
		if _, err := a.Authenticate(t.Context(), "good", access.Read); !errors.Is(err, access.ErrToken) {
			t.Errorf("the name %.20q: %v", name, err)
		}
	}
}

func TestAnAnswerIsBelievedForAWhile(t *testing.T) {
	t.Parallel()
	w := &twin{answers: cluster("jane", "list//")}
	a, _ := open(t, w, 300*time.Millisecond)
	ask := func() bool {
		p, err := a.Authenticate(t.Context(), "good", access.Read)
		if err != nil {
			t.Fatal(err)
		}
		return p.Can(access.Read)
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { ask() })
	}
	wg.Wait()
	if n := w.asked.Load(); n > 9 {
		t.Errorf("fifty callers at a time asked %d questions", n)
	}
	w.say(cluster("jane"))
	for end := time.Now().Add(10 * time.Second); ask(); {
		if time.Now().After(end) {
			t.Fatal("a right that was taken back lives on")
		}
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	time.Sleep(300 * time.Millisecond) // the answer is past
	if _, err := a.Authenticate(ctx, "good", access.Read); err == nil {
		t.Error("a call that was given up has an answer")
	}
}

func TestTheConfigurationIsHeldAgainstTheRules(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for field, c := range map[string]kubeauth.Config{
		"enabled": {URL: "https://10.0.0.1"},
		"url":     {Enabled: true, URL: "http://10.0.0.1"},
		"cache":   {Enabled: true, URL: "https://10.0.0.1", Cache: time.Hour},
	} {
		if err := c.Complete(); err == nil || !strings.HasPrefix(err.Error(), field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := (&kubeauth.Config{Enabled: true}).Complete(); err == nil || !strings.HasPrefix(err.Error(), "url:") {
		t.Error(err)
	}
	t.Setenv("KUBERNETES_SERVICE_HOST", "::1")
	t.Setenv("KUBERNETES_SERVICE_PORT", "443")
	c := kubeauth.Config{Enabled: true}
	if err := c.Complete(); err != nil || c.URL != "https://[::1]:443" {
		t.Error(c.URL, err)
	}
}
