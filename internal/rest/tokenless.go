package rest

import (
	"net/http"

	"github.com/graven-audit/graven/internal/problem"
)

// Tokenless returns a handler that refuses whatever came without TLS and bears a
// token, for it can be read on the way.
func Tokenless(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS == nil && (r.Header.Get("Authorization") != "" || r.Header.Get("X-API-Key") != "") {
			problem.New(http.StatusForbidden, "forbidden", "A token is not taken without TLS",
				"this address is for callers without one; it may have been read on the way, and should be replaced").Write(w)
			return
		}
		next.ServeHTTP(w, r)
	})
}
