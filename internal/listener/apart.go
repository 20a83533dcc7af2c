package listener

import (
	"context"
	"net"
	"net/http"
)

// apart marks requests to a server with two addresses.
type apart struct{}

// Apart returns the handler of a server with two addresses: the one with TLS is for
// callers with a token, and the other for those without.
func Apart(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), apart{}, true)))
	})
}

// Takes reports whether a request may bear a token, and whether it may bear none.
// Where there is one address, it may do either.
func Takes(r *http.Request) (token, none bool) {
	if r.Context().Value(apart{}) == nil {
		return true, true
	}
	return r.TLS != nil, r.TLS == nil
}

// Open listens on an address, up to max connections.
func Open(address string, max int) (*Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	return Limit(l, max), nil
}

// Check demands that an address is HOST:PORT.
func Check(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	return err
}
