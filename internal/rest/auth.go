package rest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/listener"
	"github.com/graven-audit/graven/internal/problem"
)

// authorize finds out who calls and holds it against what the route needs.
// What is refused is recorded.
func (s *Server) authorize(c *call, rt route) error {
	by, reason, err := s.authenticate(c.r, rt.perm)
	if err != nil {
		return err
	}
	if by == nil {
		c.w.Header().Set("WWW-Authenticate", `Bearer realm="graven"`)
		from := source(c.r)
		err := s.c.Journal.Record(c.ctx(), ledger.Act{Type: "AuthenticationFailed", By: ledger.By{Principal: "graven", Via: "internal"},
			Key: from, Details: map[string]any{"source": from, "reason": reason}})
		if err != nil {
			return err
		}
		return problem.New(http.StatusUnauthorized, "unauthenticated", "A valid token is needed",
			reason+"; send it as 'Authorization: Bearer TOKEN' or 'X-API-Key: TOKEN'")
	}
	c.by = by
	if by.Can(rt.perm) {
		return nil
	}
	who := "the role " + string(by.Role)
	if by.Role == "" {
		who = by.Name
	}
	return s.refuse(c, string(rt.perm), who+" lacks the permission "+string(rt.perm))
}

// refuse records that the caller lacks a permission, and says so.
func (s *Server) refuse(c *call, permission, reason string) error {
	err := s.c.Journal.Record(c.ctx(), ledger.Act{Type: "PermissionDenied", By: c.recorder(), Key: c.name + " " + permission,
		Details: map[string]any{"principal": c.by.Name, "permission": permission, "route": c.name}})
	if err != nil {
		return err
	}
	return problem.New(http.StatusForbidden, "forbidden", "The token does not allow this", reason)
}

// authenticate returns the principal of a request that needs a permission, or why
// there is none. The error is that nobody can tell.
func (s *Server) authenticate(r *http.Request, need access.Permission) (*access.Principal, string, error) {
	secret := r.Header.Get("X-API-Key")
	if auth := r.Header.Get("Authorization"); auth != "" {
		scheme, rest, _ := strings.Cut(auth, " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return nil, "the Authorization header is not a bearer token", nil
		}
		if secret = strings.TrimSpace(rest); secret == "" {
			return nil, "the bearer token is empty", nil // and its sender does not mean to be anonymous
		}
	}
	switch token, none := listener.Takes(r); {
	case secret == "" && none && s.c.AnonymousRole != "":
		return access.Anonymous(s.c.AnonymousRole), "", nil
	case secret == "":
		return nil, "there was no token", nil
	case !token:
		return nil, "a token is not taken without TLS: it may have been read on the way, and should be replaced", nil
	}
	var p *access.Principal
	var err error
	if s.c.Cluster == nil || access.IsOurs(secret) {
		p, err = s.c.Tokens.Authenticate(secret, s.c.Now())
	} else {
		p, err = s.c.Cluster.Authenticate(r.Context(), secret, need)
	}
	switch {
	case err == nil:
		return p, "", nil
	case errors.Is(err, access.ErrToken):
		return nil, err.Error(), nil
	}
	away := problem.New(http.StatusServiceUnavailable, "cluster-away", "The API server cannot say whose token this is", "try again")
	away.Cause = err
	return nil, "", away
}

// operatorFamily is the family of types that only who attests may tell.
const operatorFamily = "graven-operator"

// recordable refuses events of namespaces that the caller may not record for. A
// reserved id, which is not the caller's to give, stays where an entry has it already:
// the caller may have read it.
func (s *Server) recordable(c *call, e *event.Event) error {
	if e.ID.Reserved() && !c.by.Attests {
		index := []int64{-1}
		if err := s.c.Store.Find(c.ctx(), []event.ID{e.ID}, index); err != nil {
			return err
		}
		if index[0] < 0 {
			c.recorder().GiveWay(e)
		}
	}
	if t, ok := event.Lookup(e.EventType); ok && t.Family == operatorFamily && !c.by.Attests {
		return s.refuse(c, "attest", fmt.Sprintf("eventType: %s is what the operator alone tells, which attests", t.Type))
	}
	if c.by.MayRecord(e.Resource.Namespace) {
		return nil
	}
	return s.refuse(c, "record in the namespace "+e.Resource.Namespace, fmt.Sprintf("resource.namespace: %s may not create auditevents in %.64q", c.by.Name, e.Resource.Namespace))
}

// logPerm returns what a route below /log/ needs, where level is what public
// must be at least to open it to all. Entries tell who read the ledger, too.
func (s *Server) logPerm(level string) access.Permission {
	switch {
	case s.c.PublicLog == "entries", s.c.PublicLog == level:
		return ""
	case level == "entries":
		return access.ReadAccess
	}
	return access.Verify
}

// unscoped refuses principals who see some namespaces only.
func (s *Server) unscoped(c *call) error {
	if c.by != nil && c.by.Namespaces != nil {
		return s.refuse(c, "all namespaces", "it is limited to some namespaces, and this would show or judge others")
	}
	return nil
}

// share names whose share of what all have together the caller takes: two of one
// name are two, if they are not known in the same way.
func (c *call) share() string { return c.by.Via + " " + c.by.Name }

// sees reports whether the caller may see an event.
func (c *call) sees(e *event.Event) bool {
	if t, ok := event.Lookup(e.EventType); ok && t.Access && !c.by.Can(access.ReadAccess) {
		return false
	}
	if c.by.Namespaces == nil {
		return true
	}
	for _, ns := range c.by.Namespaces {
		if ns == e.Resource.Namespace {
			return true
		}
	}
	return false
}
