package kubeauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/graven-audit/graven/internal/access"
)

// ViaTokenReview is how principals are authenticated here.
const ViaTokenReview = "tokenreview"

// Config says how the API server is reached.
type Config struct {
	// Enabled has tokens that are not Graven's own reviewed by the API server.
	Enabled bool `yaml:"enabled"`
	// URL is the API server's address. Default: that of the cluster it runs in.
	URL string `yaml:"url"`
	// CAFile is the authority of its certificate, in PEM. Default: the service
	// account's.
	CAFile string `yaml:"caFile"`
	// TokenFile holds the token to ask with, and is read for each question. Default:
	// the service account's. It takes the ClusterRole system:auth-delegator, and to
	// list namespaces.
	TokenFile string `yaml:"tokenFile"`
	// Audiences are those that tokens must be for, one of them. Default: the API
	// server's own.
	Audiences []string `yaml:"audiences"`
	// Cache is how long an answer is believed; that a token is none, or may do
	// nothing, a tenth of it. Danger: so
	// long does a token live that was taken back. Default 30s.
	Cache time.Duration `yaml:"cache"`
}

const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount/"

// A FieldError says what is wrong with a field of the configuration.
type FieldError struct {
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// Complete gives the rest its defaults, and holds the whole against the rules.
func (c *Config) Complete() error {
	if !c.Enabled {
		if c.URL != "" || c.CAFile != "" || c.TokenFile != "" || len(c.Audiences) > 0 || c.Cache != 0 {
			return &FieldError{"enabled", errors.New("the other fields are no use without it")}
		}
		return nil
	}
	if c.URL == "" {
		host, port := os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")
		if host == "" || port == "" {
			return &FieldError{"url", errors.New("required outside a cluster")}
		}
		c.URL = "https://" + net.JoinHostPort(host, port)
	}
	if u, err := url.Parse(c.URL); err != nil || u.Scheme != "https" || u.Host == "" {
		return &FieldError{"url", fmt.Errorf("%q is not an address such as https://10.0.0.1:443", c.URL)}
	}
	c.CAFile, c.TokenFile = cmp.Or(c.CAFile, accountDir+"ca.crt"), cmp.Or(c.TokenFile, accountDir+"token")
	c.Cache = cmp.Or(c.Cache, 30*time.Second)
	if c.Cache < 0 || c.Cache > 10*time.Minute {
		return &FieldError{"cache", errors.New("from 1ns to 10m")}
	}
	return nil
}

// An Authenticator asks an API server. Its methods may be called concurrently.
type Authenticator struct {
	c       Config
	http    *http.Client
	metrics *Metrics

	users      memo[*user]
	slots      chan struct{} // one for each question that is being asked
	strangers  memo[bool]    // apart, so that whoever makes up tokens drives out nobody
	granted    memo[[]access.Permission]
	bounds     memo[[]string]
	namespaces memo[[]string]
}

// New returns an Authenticator for a complete configuration.
func New(c Config, metrics *Metrics) (*Authenticator, error) {
	pem, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, &FieldError{"caFile", err}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &FieldError{"caFile", errors.New("no certificate in it")}
	}
	if _, err := os.ReadFile(c.TokenFile); err != nil {
		return nil, &FieldError{"tokenFile", err}
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: parallel,
		IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true}
	a := &Authenticator{c: c, http: &http.Client{Transport: transport}, metrics: metrics, slots: make(chan struct{}, maxAsked)}
	a.users.metrics, a.granted.metrics, a.bounds.metrics, a.namespaces.metrics = metrics, metrics, metrics, metrics
	return a, nil
}

// permissions are the resources that are asked for, below auditevents.
var permissions = []struct {
	verb, subresource string
	gives             []access.Permission
}{
	{"list", "", []access.Permission{access.Read, access.Export, access.Verify}},
	{"create", "", []access.Permission{access.Record}},
	{"create", "accessreviews", []access.Permission{access.ReadAccess}},
	{"create", "tokens", []access.Permission{access.ManageToken}},
	{"create", "legalholds", []access.Permission{access.Hold}},
	{"create", "findings", []access.Permission{access.Judge}},
	{"create", "erasures", []access.Permission{access.Erase}},
	{"create", "attestations", []access.Permission{attests}},
}

// maxToken bounds a token, in bytes.
const maxToken = 32 << 10

// attests stands for the right to vouch for identities.
const attests access.Permission = "attest"

// Authenticate returns who bears a token, with the permissions that they have; for
// need, also where it is given in some namespaces only. The error is
// [access.ErrToken] if the token is not valid.
func (a *Authenticator) Authenticate(ctx context.Context, token string, need access.Permission) (*access.Principal, error) {
	if len(token) > maxToken {
		return nil, access.ErrToken
	}
	sum := sha256.Sum256([]byte(token))
	key := string(sum[:])
	if a.strangers.has(key) {
		return nil, access.ErrToken
	}
	u, err := a.users.get(ctx, key, func(ctx context.Context) (*user, time.Duration, error) {
		u, err := a.review(ctx, token)
		return u, a.c.Cache, err
	})
	if errors.Is(err, access.ErrToken) {
		a.strangers.remember(key, true, time.Now().Add(a.c.Cache/10))
	}
	if err != nil {
		return nil, err
	}
	key = u.key() // whichever of their tokens it is
	granted, err := a.granted.get(ctx, key, func(ctx context.Context) ([]access.Permission, time.Duration, error) {
		granted, err := a.permissions(ctx, u)
		if len(granted) == 0 {
			return granted, a.c.Cache / 10, err
		}
		return granted, a.c.Cache, err
	})
	if err != nil {
		return nil, err
	}
	p := &access.Principal{Name: u.Username, Via: ViaTokenReview, Permissions: granted}
	if i := slices.Index(granted, attests); i >= 0 {
		p.Attests, p.Permissions = true, slices.Delete(slices.Clone(granted), i, i+1)
	}
	for _, asked := range permissions {
		if asked.subresource != "" || !slices.Contains(asked.gives, need) || p.Can(need) {
			continue
		}
		in, err := a.bounds.get(ctx, key+asked.verb, func(ctx context.Context) ([]string, time.Duration, error) {
			in, err := a.within(ctx, u, asked.verb)
			if len(in) == 0 {
				return in, a.c.Cache / 10, err
			}
			return in, a.c.Cache, err
		})
		if err != nil {
			return nil, err
		}
		if len(in) == 0 {
			continue
		}
		p.Permissions = append(slices.Clone(p.Permissions), asked.gives...)
		if need == access.Record {
			p.RecordsIn = in
		} else {
			p.Namespaces = in
		}
	}
	return p, nil
}

// maxAsked is how many questions are asked at a time for all. Who waits too long for
// their turn is told that nobody can tell.
const maxAsked = 64

// parallel is how many questions are asked at a time for one principal.
const parallel = 16

// permissions asks for all that a user may do in the whole cluster.
func (a *Authenticator) permissions(ctx context.Context, u *user) ([]access.Permission, error) {
	var mu sync.Mutex
	var granted []access.Permission
	g, ctx := errgroup.WithContext(ctx)
	for _, asked := range permissions {
		g.Go(func() error {
			ok, err := a.allowed(ctx, u, asked.verb, asked.subresource, "")
			if ok {
				mu.Lock()
				defer mu.Unlock()
				granted = append(granted, asked.gives...)
			}
			return err
		})
	}
	err := g.Wait()
	return granted, err
}

// within returns the namespaces in which a user has a verb on AuditEvents.
func (a *Authenticator) within(ctx context.Context, u *user, verb string) ([]string, error) {
	all, err := a.namespaces.get(ctx, "", func(ctx context.Context) ([]string, time.Duration, error) {
		names, err := a.list(ctx)
		return names, a.c.Cache, err
	})
	if err != nil {
		return nil, err
	}
	may := make([]bool, len(all))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, namespace := range all {
		g.Go(func() (err error) {
			may[i], err = a.allowed(ctx, u, verb, "", namespace)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var in []string
	for i, namespace := range all {
		if may[i] {
			in = append(in, namespace)
		}
	}
	return in, nil
}
