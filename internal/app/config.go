package app

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"reflect"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/rest"
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
	// Witnesses are asked to cosign the ledger's checkpoints (C2SP
	// tlog-witness). Danger: one that says at the start that it has seen more
	// of the ledger than there is keeps the server from starting.
	Witnesses []Witness `json:"witnesses,omitempty"`
	// WitnessThreshold is how many of them must cosign a checkpoint for it to
	// count. Default: all.
	WitnessThreshold int `json:"witnessThreshold,omitempty"`
	// WitnessInterval is the least time between two checkpoints that they are
	// asked about. Default 1s.
	WitnessInterval Duration `json:"witnessInterval,omitempty"`
	// ReadOnly serves a ledger in which nothing is recorded any more: a backup,
	// or a predecessor. Who reads it stands in the server's own log only.
	ReadOnly bool `json:"readOnly,omitempty"`
	// MaxBody bounds a request's body, decompressed, in bytes. Default 16 MiB.
	MaxBody int64 `json:"maxBody,omitempty"`
	// MaxMemory is the memory, in bytes, that the process is to stay below.
	// Default 512 MiB, or what MaxBody makes it need.
	MaxMemory int64 `json:"maxMemory,omitempty"`
	// MaxConnections bounds the connections that are open at a time. Default
	// 2048, or three quarters of the files that the process may open.
	MaxConnections int `json:"maxConnections,omitempty"`
	// SegmentSize is the size of the log's files in bytes. Default 64 MiB.
	SegmentSize int64 `json:"segmentSize,omitempty"`
	// ShutdownTimeout bounds how long requests may take to end. Default 20s.
	ShutdownTimeout Duration `json:"shutdownTimeout,omitempty"`
}

// A Witness is one that is asked.
type Witness struct {
	// URL is its prefix, below which add-checkpoint stands.
	URL string `json:"url"`
	// Key is its public key, NAME+HASH+BASE64.
	Key string `json:"key"`

	key *cosign.Witness
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
		list, _ := v.([]any)
		for i, v := range list {
			if inner, is := v.(map[string]any); is && field.Kind() == reflect.Slice {
				if bad := misspelt(inner, field.Elem()); bad != "" {
					return fmt.Sprintf("%s[%d].%s", name, i, bad)
				}
			}
		}
	}
	return ""
}

// completeWitnesses reads the witnesses' keys and holds them against the rules.
func (c *Config) completeWitnesses() error {
	if c.WitnessInterval == 0 {
		c.WitnessInterval = Duration(time.Second)
	}
	if c.WitnessThreshold == 0 {
		c.WitnessThreshold = len(c.Witnesses)
	}
	policy := cosign.Policy{Need: c.WitnessThreshold}
	for i := range c.Witnesses {
		w := &c.Witnesses[i]
		at := fmt.Sprintf("witnesses[%d]", i)
		u, err := url.Parse(w.URL)
		switch {
		case err != nil:
			return fmt.Errorf("%s.url: %w", at, err)
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
			return fmt.Errorf("%s.url: %q is not an address such as https://witness.example/prefix", at, w.URL)
		}
		if w.key, err = cosign.ParseWitness(w.Key); err != nil {
			return fmt.Errorf("%s.key: %w", at, err)
		}
		policy.Witnesses = append(policy.Witnesses, w.key)
	}
	switch {
	case c.WitnessThreshold < 0 || c.WitnessThreshold > len(c.Witnesses):
		return fmt.Errorf("witnessThreshold: from 1 to the number of witnesses, %d", len(c.Witnesses))
	case c.WitnessInterval < Duration(10*time.Millisecond) || c.WitnessInterval > Duration(time.Hour):
		return errors.New("witnessInterval: from 10ms to 1h")
	}
	if err := policy.Check(); err != nil {
		return fmt.Errorf("witnesses: %w", err)
	}
	return nil
}

// otherMemory is what the process needs beside bodies and the work with them:
// for connections, exports and streams, the ledger, and the program itself.
const otherMemory = 128 << 20

// completeLimits holds memory and connections against what there is.
func (c *Config) completeLimits() error {
	bodies, work := (&rest.Config{MaxBody: c.MaxBody}).Memory()
	need := bodies + work + otherMemory
	if c.MaxMemory == 0 {
		c.MaxMemory = max(512<<20, need+need/8)
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return fmt.Errorf("maxConnections: the limit of open files: %w", err)
	}
	room := int(min(uint64(files.Cur), 1<<20) / 4 * 3) // the rest is the ledger's
	if c.MaxConnections == 0 {
		c.MaxConnections = min(2048, room)
	}
	switch {
	case c.MaxMemory < need:
		return fmt.Errorf("maxMemory: at least %d bytes with bodies of that size (maxBody)", need)
	case c.MaxConnections < 1:
		return errors.New("maxConnections: from 1 on")
	case c.MaxConnections > room:
		return fmt.Errorf("maxConnections: at most %d, three quarters of the files that the process may open (ulimit -n)", room)
	}
	return nil
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
	if err := c.completeLimits(); err != nil {
		return err
	}
	if err := c.completeWitnesses(); err != nil {
		return err
	}
	if c.AnonymousRole != "" {
		if _, err := access.ParseRole(string(c.AnonymousRole)); err != nil {
			return fmt.Errorf("anonymousRole: %w", err)
		}
	}
	return nil
}
