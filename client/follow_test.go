package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/graven-audit/graven/client"
)

// streams serves one text after the other, and what was asked for.
type streams struct {
	texts []string
	asked []string
}

func (s *streams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.URL.Query().Get("last_event_id")+"/"+r.URL.Query().Get("limit"))
	if len(s.texts) == 0 {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	fmt.Fprint(w, s.texts[0])
	s.texts = s.texts[1:]
}

func (s *streams) follow(t *testing.T, query url.Values, after string, fn func(json.RawMessage) error) (seen []string, err error) {
	t.Helper()
	srv := httptest.NewServer(s)
	defer srv.Close()
	c, err := client.New(client.Config{URL: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Follow(t.Context(), query, after, func(raw json.RawMessage) error {
		seen = append(seen, string(raw))
		if fn != nil {
			return fn(raw)
		}
		return nil
	})
	return seen, err
}

func TestFollowingGoesOnWhereAStreamBrokeOff(t *testing.T) {
	s := streams{texts: []string{"id: 4\n: graven\n\nid: 7\nevent: audit\ndata: {\"a\":1}\n\nid: 9\nda", "id: 7\n: graven\n\nid: 9\ndata: {\"a\":2}\n\n"}}
	seen, err := s.follow(t, url.Values{"type": {"x"}}, "", nil)
	var refused *client.Problem
	if fmt.Sprint(seen) != `[{"a":1} {"a":2}]` || fmt.Sprint(s.asked) != "[/ 7/ 9/]" || !errors.As(err, &refused) || refused.Status != http.StatusForbidden {
		t.Errorf("%s, asked %q, %v", seen, s.asked, err)
	}
}

func TestFollowingEndsAtItsLimitOrWhenToldTo(t *testing.T) {
	text := strings.Repeat("id: 1\ndata: {}\n\n", 2)
	s := streams{texts: []string{text, text, text}}
	if seen, err := s.follow(t, url.Values{"limit": {"3"}}, "-1", nil); len(seen) != 3 || err != nil || fmt.Sprint(s.asked) != "[-1/3 1/1]" {
		t.Errorf("%d, asked %q, %v", len(seen), s.asked, err)
	}
	own := errors.New("enough")
	if seen, err := s.follow(t, nil, "", func(json.RawMessage) error { return own }); len(seen) != 1 || !errors.Is(err, own) {
		t.Errorf("%d, %v", len(seen), err)
	}
	if _, err := s.follow(t, url.Values{"limit": {"few"}}, "", nil); err == nil || !strings.Contains(err.Error(), "limit") {
		t.Error(err)
	}
}
