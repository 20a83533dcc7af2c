package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/event"
)

const id = "01997c1e-0000-7000-8000-000000000001"

// serve returns a client of a server that answers with h.
func serve(t *testing.T, h http.HandlerFunc) *client.Client {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c, err := client.New(client.Config{URL: s.URL + "/below/", Token: "secret", UserAgent: "tester/1"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answer answers each request with a status and a body of the given type.
func answer(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func TestAnAddressThatIsNoneIsRefused(t *testing.T) {
	for _, address := range []string{"", "127.0.0.1:8090", "ftp://host", "http://", "http://a b", "/path", "http://[::1"} {
		if _, err := client.New(client.Config{URL: address}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", address)) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestARequestSaysWhoAsksAndForWhat(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %q %q %q %s %v", r.Method, r.URL.RequestURI(), r.Header["Authorization"], r.Header["User-Agent"], r.Header["Content-Type"], body, err)
	})
	resp, err := c.Do(t.Context(), http.MethodPut, "/a%2Fb/%C3%BC", url.Values{"q": {"1&2"}}, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	want := `PUT /below/a%2Fb/%C3%BC?q=1%262 ["Bearer secret"] ["tester/1"] ["text/plain"] x <nil>`
	if err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}

func TestAReceiptTellsWhereTheEventStands(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		e, err := io.ReadAll(r.Body)
		if err != nil || r.URL.Path != "/below/api/v1/audit/events" || !strings.Contains(string(e), `"eventType":"IssueCreated"`) {
			t.Errorf("%s %s %v", r.URL.Path, e, err)
		}
		answer(201, "application/json", `{"id":"`+id+`","name":"n","index":7,"leafHash":"aa","duplicate":true,"checkpoint":"note"}`)(w, r)
	})
	got, err := c.RecordSync(t.Context(), &event.Event{EventType: "IssueCreated"})
	if err != nil {
		t.Fatal(err)
	}
	if got.ID.String() != id || got.Name != "n" || got.Index != 7 || got.LeafHash != "aa" || !got.Duplicate || got.Checkpoint != "note" {
		t.Errorf("%+v", got)
	}
}

func TestABatchTellsWhatBecameOfEachEvent(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != `[{"a":1},{"b":2}]` || r.URL.RawQuery != "asserted=true" {
			t.Errorf("%s?%s %v", body, r.URL.RawQuery, err)
		}
		answer(200, "application/json", `{"checkpoint":"note","items":[{"position":0,"id":"`+id+`","index":3},
			{"position":1,"error":{"title":"The event is not valid","status":400,"detail":"it is not","errors":[{"field":"actor","reason":"required"}]}}]}`)(w, r)
	})
	got, err := c.RecordBatch(t.Context(), &client.Batch{Events: [][]byte{[]byte(`{"a":1}`), []byte(`{"b":2}`)}, Asserted: true})
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if r := got[0].Receipt; got[0].Err != nil || r.Index != 3 || r.Checkpoint != "note" {
		t.Errorf("%+v, %v", r, got[0].Err)
	}
	var p *client.Problem
	if !errors.As(got[1].Err, &p) || p.Errors[0].Field != "actor" || p.Error() != "The event is not valid: it is not (400)" || client.IsRetryable(p) {
		t.Errorf("%+v", got[1])
	}
}

func TestAnAnswerThatIsNoneIsAnError(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON":          "hello",
		"cut off":          `{"items":[{"id":"`,
		"too few":          `{"items":[]}`,
		"no id":            `{"items":[{"index":1}]}`,
		"an id that is no": `{"id":"x","items":[{"id":"x"}]}`,
	} {
		c := serve(t, answer(200, "application/json", body))
		if got, err := c.RecordBatch(t.Context(), &client.Batch{Events: [][]byte{[]byte(`{}`)}}); err == nil {
			t.Errorf("%s: a batch gives %v", name, got)
		}
		if got, err := c.RecordSync(t.Context(), &event.Event{}); err == nil {
			t.Errorf("%s: an event gives %v", name, got)
		}
	}
}

func TestAProblemIsToldInTheServersWords(t *testing.T) {
	for name, tt := range map[string]struct {
		answer http.HandlerFunc
		says   string
	}{
		"a problem":           {answer(403, "application/problem+json", `{"title":"Not allowed","detail":"viewers may not","status":403}`), "Not allowed: viewers may not (403)"},
		"a problem that lies": {answer(403, "application/problem+json; charset=utf-8", `{"title":"Not allowed","status":200}`), "Not allowed (403)"},
		"a proxy's page":      {answer(502, "text/html", "<h1>Bad gateway"), "502 Bad Gateway (502)"},
		"broken JSON":         {answer(400, "application/problem+json", `{"title":`), "400 Bad Request: unexpected end of JSON input (400)"},
		"nothing new":         {answer(304, "", ""), "304 Not Modified (304)"},
	} {
		err := serve(t, tt.answer).Get(t.Context(), "/x", nil, nil)
		var p *client.Problem
		if !errors.As(err, &p) || err.Error() != tt.says {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhatMayPassIsWorthAnotherTry(t *testing.T) {
	for status, want := range map[int]bool{400: false, 401: false, 403: false, 409: false, 413: false, 429: true, 500: false, 502: true, 503: true, 504: true} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(status)
		})
		err := c.Get(t.Context(), "/", nil, nil)
		var p *client.Problem
		if client.IsRetryable(err) != want || !errors.As(err, &p) || p.RetryAfter != 7 {
			t.Errorf("%d: %v", status, err)
		}
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	c, err := client.New(client.Config{URL: gone.URL})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Get(t.Context(), "/", nil, nil); !client.IsRetryable(err) {
		t.Errorf("a server that is gone: %v", err)
	}
	if client.IsRetryable(errors.New("other")) || client.IsRetryable(nil) {
		t.Error("any error is retryable")
	}
}

func TestACallThatWasGivenUpIsNotWorthAnother(t *testing.T) {
	begun, end := make(chan struct{}), make(chan struct{})
	defer close(end)
	c := serve(t, func(http.ResponseWriter, *http.Request) { close(begun); <-end })
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	go func() { <-begun; cancel() }()
	if err := c.Get(ctx, "/", nil, nil); !errors.Is(err, context.Canceled) || client.IsRetryable(err) {
		t.Errorf("got %v", err)
	}
}
