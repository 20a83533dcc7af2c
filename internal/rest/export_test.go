package rest

import (
	"strings"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/account"
)

// A Route is a route as tests see it.
type Route struct {
	Method, Path string
	Permission   access.Permission
	Reads        bool
}

// Routes lists every route.
func (s *Server) Routes() []Route {
	var list []Route
	for _, r := range s.routes() {
		method, path, _ := strings.Cut(r.pattern, " ")
		list = append(list, Route{Method: method, Path: path, Permission: r.perm, Reads: r.reads})
	}
	return list
}

// Bounds of a batch and of an incident.
const (
	MaxItems    = maxItems
	MaxIncident = account.MaxEvents
)
