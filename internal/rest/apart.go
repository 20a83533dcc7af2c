package rest

import (
	"context"
	"net/http"

	"github.com/graven-audit/graven/internal/problem"
)

// needsToken marks requests that are not to be answered without a token, whatever
// anonymous callers may do elsewhere.
type needsToken struct{}

// Apart returns the handler of a server with two addresses. The one without TLS is
// for anonymous callers: a token is refused there, for it can be read on the way.
// The other is for all the rest.
func Apart(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), needsToken{}, true)))
			return
		}
		if r.Header.Get("Authorization") != "" || r.Header.Get("X-API-Key") != "" {
			problem.New(http.StatusForbidden, "forbidden", "A token is not taken without TLS",
				"this address is for callers without one; it may have been read on the way, and should be replaced").Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}
