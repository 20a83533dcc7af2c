package redis

import (
	"context"
	"errors"
	"fmt"

	goredis "github.com/redis/go-redis/v9"
)

// A server is one that keeps what it acknowledges, with the keys of a ledger.
type server struct {
	client                  *goredis.Client
	address                 string
	prefix, stream, refused string // of keys, and keys
}

// connect connects to the server at a URL.
func connect(ctx context.Context, url, origin string) (*server, error) {
	goredis.SetLogger(silent{})
	options, err := goredis.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("deadLetter: not the address of a Redis server, such as redis://host:6379/0: %w", err)
	}
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout = timeout, timeout, timeout
	options.MaxRetries = -1 // a command that may have been carried out is not sent again
	options.ContextTimeoutEnabled = true
	prefix := "graven:{" + origin + "}:"
	s := &server{client: goredis.NewClient(options), address: options.Addr, prefix: prefix, stream: prefix + "events", refused: prefix + "refused"}
	if err := s.check(ctx); err != nil {
		return nil, errors.Join(s.failed(err), s.client.Close())
	}
	return s, nil
}

// failed is an error of the server.
func (s *server) failed(err error) error {
	return fmt.Errorf("deadLetter: the Redis server at %s: %w", s.address, err)
}

// check refuses a server that may lose what it has acknowledged.
func (s *server) check(ctx context.Context) error {
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"} {
		is, err := s.client.ConfigGet(ctx, name).Result()
		switch {
		case err != nil:
			return fmt.Errorf("its setting %s cannot be read: %w", name, err)
		case is[name] != want:
			return fmt.Errorf("%s is %q: it must be %s, or it may lose what it has acknowledged", name, is[name], want)
		}
	}
	role, err := s.client.Do(ctx, "ROLE").Slice()
	if err != nil {
		return fmt.Errorf("its role cannot be read: %w", err)
	}
	if len(role) == 0 || role[0] != "master" {
		return fmt.Errorf("it is a replica, which only its primary writes to")
	}
	return nil
}

// silent has the client's library not write to stderr by itself: what it has to
// say is in its errors.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
