package app

import (
	"errors"
	"fmt"
	"net/url"
	"syscall"
	"time"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/kubeauth"
	"github.com/graven-audit/graven/internal/listener"
	"github.com/graven-audit/graven/internal/rest"
)

// Config of a server. On disk it is YAML with these names; unknown ones are
// refused. The zero value of a field is its default, which a file asks for by
// leaving the name out.
type Config struct {
	// Data is the directory of the embedded store. It is made if need be.
	Data string `yaml:"data"`
	// Store is the PostgreSQL database that the ledger is kept in instead,
	// postgres://USER@HOST/DATABASE. Several servers may have one ledger there.
	// The directory then holds this server's copy of the keys.
	Store string `yaml:"store"`
	// Spool keeps events while the database is away.
	Spool Spool `yaml:"spool"`
	// DeadLetter is a Redis or Valkey server, redis://HOST:PORT/DB, that keeps
	// events while the database is away, for servers without a disk.
	DeadLetter string `yaml:"deadLetter"`
	// Listen is the address to serve on, HOST:PORT. Default 127.0.0.1:8090.
	Listen string `yaml:"listen"`
	// Origin names a new ledger, for ever; a URL without scheme that is yours
	// is best. Default: graven.local/ and 16 random digits.
	Origin string `yaml:"origin"`
	// TLSCert and TLSKey are PEM files; without them the server speaks plain
	// HTTP, and tokens can be read on the way.
	TLSCert string `yaml:"tlsCert"`
	TLSKey  string `yaml:"tlsKey"`
	// PlainListen is a second address, without TLS, for callers without a token:
	// only there have they the AnonymousRole, and a token is refused there.
	PlainListen string `yaml:"plainListen"`
	// AnonymousRole is what callers without a token may do: a role, or
	// nothing, which is the default. Danger: whoever reaches the port has it.
	AnonymousRole access.Role `yaml:"anonymousRole"`
	// Kubernetes has tokens of a cluster, as those of service accounts, count.
	Kubernetes kubeauth.Config `yaml:"kubernetes"`
	// Log configures what is served below /log/.
	Log struct {
		// Public opens it without a token: none (default), hashes, or
		// entries. Entries tell who did what, details aside.
		Public string `yaml:"public"`
	} `yaml:"log"`
	// StrictTypes refuses events whose type is not in the catalogue.
	StrictTypes bool `yaml:"strictTypes"`
	// TipFile is a second record of the newest checkpoint, best on another
	// disk: a copy of the data directory older than it is not opened.
	TipFile string `yaml:"tipFile"`
	// Witnesses are asked to cosign the ledger's checkpoints (C2SP
	// tlog-witness). Danger: one that says at the start that it has seen more
	// of the ledger than there is keeps the server from starting.
	Witnesses []Witness `yaml:"witnesses"`
	// WitnessThreshold is how many of them must cosign a checkpoint for it to
	// count. Default: all.
	WitnessThreshold int `yaml:"witnessThreshold"`
	// WitnessInterval is the least time between two checkpoints that they are
	// asked about. Default 1s.
	WitnessInterval time.Duration `yaml:"witnessInterval"`
	// Retention says how long events are kept, and how often what is not kept
	// any longer is erased.
	Retention Retention `yaml:"retention"`
	// Erasure is about content that somebody asks to erase.
	Erasure struct {
		// Confirmations is how many people must want it: 1, the default, or 2.
		Confirmations int `yaml:"confirmations"`
	} `yaml:"erasure"`
	// Findings says what else is looked for in the trail.
	Findings Findings `yaml:"findings"`
	// VerifyEvery is how often the server verifies the whole ledger. Default 24h.
	VerifyEvery time.Duration `yaml:"verifyEvery"`
	// Compliance is about reports.
	Compliance Compliance `yaml:"compliance"`
	// ReadOnly serves a ledger in which nothing is recorded any more: a backup,
	// or a predecessor. Who reads it stands in the server's own log only.
	ReadOnly bool `yaml:"readOnly"`
	// MaxBody bounds a request's body, decompressed, in bytes. Default 16 MiB.
	MaxBody int64 `yaml:"maxBody"`
	// MaxMemory is the memory, in bytes, that the process is to stay below.
	// Default 512 MiB, or what MaxBody makes it need.
	MaxMemory int64 `yaml:"maxMemory"`
	// MaxConnections bounds the connections that are open at a time. Default
	// 2048, or three quarters of the files that the process may open.
	MaxConnections int `yaml:"maxConnections"`
	// SegmentSize is the size of the log's files in bytes. Default 64 MiB.
	SegmentSize int64 `yaml:"segmentSize"`
	// ShutdownTimeout bounds how long requests may take to end. Default 20s.
	ShutdownTimeout time.Duration `yaml:"shutdownTimeout"`
}

// A Witness is one that is asked.
type Witness struct {
	// URL is its prefix, below which add-checkpoint stands.
	URL string `yaml:"url"`
	// Key is its public key, NAME+HASH+BASE64.
	Key string `yaml:"key"`

	key *cosign.Witness
}

// completeWitnesses reads the witnesses' keys and holds them against the rules.
func (c *Config) completeWitnesses() error {
	if c.WitnessInterval == 0 {
		c.WitnessInterval = time.Second
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
			return wrong(at+".url", "%w", err)
		case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
			return wrong(at+".url", "%q is not an address such as https://witness.example/prefix", w.URL)
		}
		if w.key, err = cosign.ParseWitness(w.Key); err != nil {
			return wrong(at+".key", "%w", err)
		}
		policy.Witnesses = append(policy.Witnesses, w.key)
	}
	switch {
	case c.WitnessThreshold < 0 || c.WitnessThreshold > len(c.Witnesses):
		return wrong("witnessThreshold", "from 1 to the number of witnesses, %d", len(c.Witnesses))
	case c.WitnessInterval < 10*time.Millisecond || c.WitnessInterval > time.Hour:
		return wrong("witnessInterval", "from 10ms to 1h")
	}
	if err := policy.Check(); err != nil {
		return wrong("witnesses", "%w", err)
	}
	return nil
}

// A fieldError says what is wrong with a field of the configuration.
type fieldError struct {
	field string // as in a file, such as log.public or witnesses[0].url
	err   error
}

func (e *fieldError) Error() string { return e.field + ": " + e.err.Error() }
func (e *fieldError) Unwrap() error { return e.err }

func wrong(field, format string, args ...any) error {
	return &fieldError{field, fmt.Errorf(format, args...)}
}

// ofKubernetes names a field as the file does.
func ofKubernetes(err error) error {
	if f := new(kubeauth.FieldError); errors.As(err, &f) {
		return &fieldError{"kubernetes." + f.Field, f.Err}
	}
	return err
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
		return wrong("maxConnections", "the limit of open files: %w", err)
	}
	room := int(min(uint64(files.Cur), 1<<20) / 4 * 3) // the rest is the ledger's
	if c.MaxConnections == 0 {
		c.MaxConnections = min(2048, room)
	}
	switch {
	case c.MaxMemory < need:
		return wrong("maxMemory", "at least %d bytes with bodies of that size (maxBody)", need)
	case c.MaxConnections < 1:
		return wrong("maxConnections", "from 1 on")
	case c.MaxConnections > room:
		return wrong("maxConnections", "at most %d, three quarters of the files that the process may open (ulimit -n)", room)
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
		c.ShutdownTimeout = 20 * time.Second
	}
	if err := listener.Check(c.Listen); err != nil {
		return wrong("listen", "HOST:PORT: %w", err)
	}
	switch {
	case c.Data == "":
		return wrong("data", "required")
	case c.Log.Public != "none" && c.Log.Public != "hashes" && c.Log.Public != "entries":
		return wrong("log.public", "%q is none of none, hashes, entries", c.Log.Public)
	case c.TLSKey == "" && c.TLSCert != "":
		return wrong("tlsCert", "no use without tlsKey")
	case c.TLSCert == "" && c.TLSKey != "":
		return wrong("tlsKey", "no use without tlsCert")
	case c.PlainListen != "" && (c.TLSCert == "" || c.AnonymousRole == ""):
		return wrong("plainListen", "no use without tlsCert and anonymousRole")
	case c.MaxBody < 0 || c.MaxBody > 1<<30:
		return wrong("maxBody", "from 1 to 1073741824 bytes")
	case c.SegmentSize != 0 && (c.SegmentSize < 1<<16 || c.SegmentSize > 1<<31):
		return wrong("segmentSize", "from 65536 to 2147483648 bytes")
	case c.VerifyEvery < 0:
		return wrong("verifyEvery", "longer than 0s")
	case c.ShutdownTimeout < 0:
		return wrong("shutdownTimeout", "longer than 0s")
	}
	if err := listener.Check(c.PlainListen); c.PlainListen != "" && err != nil {
		return wrong("plainListen", "HOST:PORT: %w", err)
	}
	if err := c.Spool.complete(c.Store); err != nil {
		return err
	}
	if err := c.Findings.complete(); err != nil {
		return err
	}
	if err := c.Compliance.complete(); err != nil {
		return err
	}
	if c.VerifyEvery == 0 {
		c.VerifyEvery = 24 * time.Hour
	}
	switch {
	case c.DeadLetter != "" && c.Store == "":
		return wrong("deadLetter", "for a ledger in a database (store) only: a directory is never away")
	case c.DeadLetter != "" && c.Spool.Directory != "":
		return wrong("deadLetter", "no use beside spool.directory")
	}
	if err := c.completeLimits(); err != nil {
		return err
	}
	if err := errors.Join(c.completeErasing(), c.completeWitnesses()); err != nil {
		return err
	}
	if err := c.Kubernetes.Complete(); err != nil {
		return ofKubernetes(err)
	}
	if c.AnonymousRole != "" {
		if _, err := access.ParseRole(string(c.AnonymousRole)); err != nil {
			return wrong("anonymousRole", "%w", err)
		}
	}
	return nil
}
