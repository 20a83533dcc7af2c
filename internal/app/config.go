package app

import (
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/internal/access"
)

// Config of a server. On disk it is YAML with these names; unknown ones are
// refused.
type Config struct {
	// Data is the directory of the embedded store. It is made if need be.
	Data string `json:"data,omitempty"`
	// Listen is the address to serve on, HOST:PORT. Default 127.0.0.1:8090.
	Listen string `json:"listen,omitempty"`
	// Origin names a new ledger, for ever; a URL without scheme that is yours
	// is best. Default: graven.local/ and 16 random digits.
	Origin string `json:"origin,omitempty"`
	// TLSCert and TLSKey are PEM files; without them the server speaks plain
	// HTTP, and tokens can be read on the way.
	TLSCert string `json:"tlsCert,omitempty"`
	TLSKey  string `json:"tlsKey,omitempty"`
	// AnonymousRole is what callers without a token may do: a role, or
	// nothing, which is the default. Danger: whoever reaches the port has it.
	AnonymousRole access.Role `json:"anonymousRole,omitempty"`
	// Log configures what is served below /log/.
	Log struct {
		// Public opens it without a token: none (default), hashes, or
		// entries. Entries tell who did what, details aside.
		Public string `json:"public,omitempty"`
	} `json:"log,omitempty"`
	// StrictTypes refuses events whose type is not in the catalogue.
	StrictTypes bool `json:"strictTypes,omitempty"`
	// TipFile is a second record of the newest checkpoint, best on another
	// disk: a copy of the data directory older than it is not opened.
	TipFile string `json:"tipFile,omitempty"`
	// MaxBody bounds a request's body, decompressed, in bytes. Default 16 MiB.
	MaxBody int64 `json:"maxBody,omitempty"`
	// SegmentSize is the size of the log's files in bytes. Default 64 MiB.
	SegmentSize int64 `json:"segmentSize,omitempty"`
	// ShutdownTimeout bounds how long requests may take to end. Default 20s.
	ShutdownTimeout Duration `json:"shutdownTimeout,omitempty"`
}

// A Duration is written as in 20s or 5m.
type Duration time.Duration

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(b []byte) error {
	if len(b) < 2 || b[0] != '"' {
		return fmt.Errorf("not a duration such as 20s: %.40s", b)
	}
	v, err := time.ParseDuration(string(b[1 : len(b)-1]))
	*d = Duration(v)
	return err
}

// ReadConfig reads a configuration file.
func ReadConfig(path string) (Config, error) {
	var c Config
	data, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return c, fmt.Errorf("read configuration %s: %w", path, err)
	}
	var names map[string]any
	if err := yaml.Unmarshal(data, &names); err != nil {
		return c, fmt.Errorf("read configuration %s: %w", path, err)
	}
	if name := misspelt(names, reflect.TypeOf(c)); name != "" {
		return c, fmt.Errorf("read configuration %s: unknown field %q", path, name)
	}
	return c, nil
}

// misspelt returns a name that is none of t's fields, of which encoding/json
// accepts any that differ in case only.
func misspelt(names map[string]any, t reflect.Type) string {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		fields[name] = t.Field(i).Type
	}
	for name, v := range names {
		field, ok := fields[name]
		if !ok {
			return name
		}
		if inner, is := v.(map[string]any); is && field.Kind() == reflect.Struct {
			if bad := misspelt(inner, field); bad != "" {
				return name + "." + bad
			}
		}
	}
	return ""
}

// complete gives the rest its defaults and holds the whole against the rules.
func (c *Config) complete() error {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:8090"
	}
	if c.Log.Public == "" {
		c.Log.Public = "none"
	}
	if c.ShutdownTimeout == 0 {
		c.ShutdownTimeout = Duration(20 * time.Second)
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	} else if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	switch {
	case c.Data == "":
		return errors.New("data: required")
	case c.Log.Public != "none" && c.Log.Public != "hashes" && c.Log.Public != "entries":
		return fmt.Errorf("log.public: %q is none of none, hashes, entries", c.Log.Public)
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("tlsCert and tlsKey: one is no use without the other")
	case c.MaxBody < 0 || c.MaxBody > 1<<30:
		return errors.New("maxBody: from 1 to 1073741824 bytes")
	case c.SegmentSize != 0 && (c.SegmentSize < 1<<16 || c.SegmentSize > 1<<31):
		return errors.New("segmentSize: from 65536 to 2147483648 bytes")
	case c.ShutdownTimeout < 0:
		return errors.New("shutdownTimeout: must not be negative")
	}
	if c.AnonymousRole != "" {
		if _, err := access.ParseRole(string(c.AnonymousRole)); err != nil {
			return fmt.Errorf("anonymousRole: %w", err)
		}
	}
	return nil
}
