package kubeauth

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/graven-audit/graven/internal/access"
)

// A user is who bears a token, as the API server says (authentication.k8s.io/v1
// UserInfo). All of it is held against the cluster's roles.
type user struct {
	Username string              `json:"username"`
	UID      string              `json:"uid"`
	Groups   []string            `json:"groups"`
	Extra    map[string][]string `json:"extra"`
}

// key returns what two have in common that may do the same: all but which token it
// was.
func (u *user) key() string {
	same := *u
	same.Extra = maps.Clone(u.Extra)
	delete(same.Extra, "authentication.kubernetes.io/credential-id")
	text, err := json.Marshal(same)
	if err != nil {
		panic("internal error: strings that cannot be encoded: " + err.Error())
	}
	sum := sha256.Sum256(text)
	return string(sum[:])
}

const (
	// maxAnswer bounds an answer of the API server, in bytes.
	maxAnswer = 4 << 20
	// patience is how long the API server may take.
	patience = 5 * time.Second
)

// ask sends a request to the API server, and reads the answer.
func (a *Authenticator) ask(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	case <-ctx.Done():
		return fmt.Errorf("too many questions to the API server at a time: %w", ctx.Err())
	}
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(a.c.URL, "/")+path, bytes.NewReader(text))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(a.c.TokenFile)
	if err != nil {
		return fmt.Errorf("read the token for the API server: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return err
	case len(data) > maxAnswer:
		return fmt.Errorf("%s: an answer of more than %d bytes", path, maxAnswer)
	case resp.StatusCode >= 300:
		return fmt.Errorf("%s: %s: %.200s", path, resp.Status, data)
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// review asks whose token it is.
func (a *Authenticator) review(ctx context.Context, token string) (u *user, err error) {
	began := time.Now()
	allowed := false
	defer func() { a.metrics.review("token", allowed, err, time.Since(began)) }()
	type spec struct {
		Token     string   `json:"token"`
		Audiences []string `json:"audiences,omitempty"`
	}
	var answer struct {
		Status *struct {
			Authenticated bool     `json:"authenticated"`
			User          user     `json:"user"`
			Audiences     []string `json:"audiences"`
			Error         string   `json:"error"`
		} `json:"status"`
	}
	err = a.ask(ctx, http.MethodPost, "/apis/authentication.k8s.io/v1/tokenreviews", map[string]any{
		"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": spec{token, a.c.Audiences}}, &answer)
	if err != nil {
		return nil, err
	}
	s := answer.Status
	switch {
	case s == nil:
		return nil, fmt.Errorf("the API server did not say whose token it is")
	case !s.Authenticated:
		return nil, access.ErrToken
	case len(a.c.Audiences) > 0 && !slices.ContainsFunc(s.Audiences, func(to string) bool { return slices.Contains(a.c.Audiences, to) }):
		return nil, access.ErrToken
	}
	if err := access.CheckName(s.User.Username); err != nil {
		return nil, fmt.Errorf("%w: its user's name: %w", access.ErrToken, err)
	}
	allowed = true
	return &s.User, nil
}

// allowed asks whether a user has a verb on AuditEvents, in a namespace or, where
// that is empty, in all.
func (a *Authenticator) allowed(ctx context.Context, u *user, verb, subresource, namespace string) (ok bool, err error) {
	began := time.Now()
	defer func() { a.metrics.review("access", ok, err, time.Since(began)) }()
	type attributes struct {
		Namespace   string `json:"namespace,omitempty"`
		Verb        string `json:"verb"`
		Group       string `json:"group"`
		Version     string `json:"version"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource,omitempty"`
	}
	type spec struct {
		ResourceAttributes attributes          `json:"resourceAttributes"`
		User               string              `json:"user"`
		UID                string              `json:"uid,omitempty"`
		Groups             []string            `json:"groups,omitempty"`
		Extra              map[string][]string `json:"extra,omitempty"`
	}
	var answer struct {
		Status *struct {
			Allowed bool `json:"allowed"`
			Denied  bool `json:"denied"`
		} `json:"status"`
	}
	err = a.ask(ctx, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{
		"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
		"spec": spec{attributes{namespace, verb, "platform.chatcli.io", "v1alpha1", "auditevents", subresource}, u.Username, u.UID, u.Groups, u.Extra}}, &answer)
	if err == nil && answer.Status == nil {
		err = fmt.Errorf("the API server did not say what %s may do", u.Username)
	}
	if err != nil {
		return false, err
	}
	return answer.Status.Allowed && !answer.Status.Denied, nil
}

// maxNamespaces bounds the namespaces that are asked for.
const maxNamespaces = 10_000

// list returns the names of all namespaces.
func (a *Authenticator) list(ctx context.Context) ([]string, error) {
	var names []string
	for next := ""; ; {
		var page struct {
			Metadata struct {
				Continue string `json:"continue"`
			} `json:"metadata"`
			Items []struct {
				Metadata struct {
					Name string `json:"name"`
				} `json:"metadata"`
			} `json:"items"`
		}
		q := url.Values{"limit": {"500"}}
		if next != "" {
			q.Set("continue", next)
		}
		if err := a.ask(ctx, http.MethodGet, "/api/v1/namespaces?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		for _, item := range page.Items {
			names = append(names, item.Metadata.Name)
		}
		if next = page.Metadata.Continue; next == "" {
			return names, nil
		}
		if len(names) > maxNamespaces {
			return nil, fmt.Errorf("there are more than %d namespaces: who may not list AuditEvents in all of them is not answered", maxNamespaces)
		}
	}
}
