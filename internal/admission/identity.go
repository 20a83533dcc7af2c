package admission

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// An Identity is what the API server knows a webhook by, and the webhook the API
// server: a certificate, the authority that signed it, and secret words that begin the
// path. It stands in a Secret, for all of several operators, as does the key of their
// digests.
type Identity struct {
	// API reads and writes the Secret, without a cache.
	API             client.Client
	Namespace, Name string
	// Hosts are the names and addresses that the webhook is asked by.
	Hosts []string
	// Files is a directory with the certificate in place of one that the operator makes:
	// tls.crt, tls.key and ca.crt, as cert-manager has them. Others renew them.
	Files string
	Now   func() time.Time

	current atomic.Pointer[keys]
	digest  atomic.Pointer[[]byte]
}

// keys are one generation of an identity.
type keys struct {
	authority []byte // PEM
	digest    []byte
	cert      tls.Certificate
	paths     []string // the newest first
	made      time.Time
}

const (
	// lifetime is how long a certificate is good, and renewal when it is replaced,
	// and the path with it. The one before stays good until the next.
	lifetime = 90 * 24 * time.Hour
	renewal  = 60 * 24 * time.Hour
	// authorityLifetime is that of the authority.
	authorityLifetime = 10 * 365 * 24 * time.Hour
	// digestSize is that of the key of digests, in bytes.
	digestSize = 32
)

// The names under which a Secret has them.
const (
	keyAuthority    = "ca.crt"
	keyAuthorityKey = "ca.key"
	keyPath         = "path"
	keyPathBefore   = "path.before"
	keyDigest       = "digest.key"
)

// Load reads the identity, or makes one, and renews it when it is time.
func (id *Identity) Load(ctx context.Context) error {
	for range 3 { // another operator may do the same
		secret := &corev1.Secret{}
		err := id.API.Get(ctx, client.ObjectKey{Namespace: id.Namespace, Name: id.Name}, secret)
		absent := apierrors.IsNotFound(err)
		if err != nil && !absent {
			return fmt.Errorf("read the webhook's Secret: %w", err)
		}
		k, err := parseKeys(secret)
		if err == nil && id.good(k) {
			id.digest.Store(&k.digest)
			if id.Files != "" {
				if err := id.given(k); err != nil {
					return err
				}
			}
			id.current.Store(k)
			return nil
		}
		if !absent && len(secret.Data) > 0 && err != nil {
			return fmt.Errorf("the Secret %s/%s is not a webhook's, or damaged: %w (delete it, and it is made anew)", id.Namespace, id.Name, err)
		}
		if err := id.renew(secret); err != nil {
			return err
		}
		if absent {
			secret.ObjectMeta = metav1.ObjectMeta{Namespace: id.Namespace, Name: id.Name, Labels: map[string]string{"app.kubernetes.io/part-of": "graven"}}
			secret.Type = corev1.SecretTypeTLS
			err = id.API.Create(ctx, secret)
		} else {
			err = id.API.Update(ctx, secret)
		}
		if err != nil && !apierrors.IsAlreadyExists(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("write the webhook's Secret: %w", err)
		}
	}
	return errors.New("the webhook's Secret is changed by others all the time")
}

// given has keys be those in the files, but for the path.
func (id *Identity) given(k *keys) (err error) {
	if k.cert, err = tls.LoadX509KeyPair(filepath.Join(id.Files, corev1.TLSCertKey), filepath.Join(id.Files, corev1.TLSPrivateKeyKey)); err != nil {
		return err
	}
	for _, host := range id.Hosts {
		if err := k.cert.Leaf.VerifyHostname(host); err != nil {
			return err
		}
	}
	name := filepath.Join(id.Files, keyAuthority)
	if k.authority, err = os.ReadFile(name); err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(k.authority) {
		return fmt.Errorf("no certificate in %s", name)
	}
	return nil
}

// good reports whether all is there, for all hosts, and not to be renewed.
func (id *Identity) good(k *keys) bool {
	for _, host := range id.Hosts {
		if k.cert.Leaf.VerifyHostname(host) != nil {
			return false
		}
	}
	return len(k.digest) == digestSize && id.Now().Before(k.made.Add(renewal)) && !id.Now().Before(k.made.Add(-time.Hour))
}

func parseKeys(secret *corev1.Secret) (*keys, error) {
	d := secret.Data
	cert, err := tls.X509KeyPair(d[corev1.TLSCertKey], d[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	if len(d[keyAuthority]) == 0 || len(d[keyPath]) < 20 {
		return nil, fmt.Errorf("%s, %s: required", keyAuthority, keyPath)
	}
	k := &keys{authority: d[keyAuthority], digest: d[keyDigest], cert: cert, paths: []string{string(d[keyPath])}, made: cert.Leaf.NotBefore}
	if before := string(d[keyPathBefore]); before != "" {
		k.paths = append(k.paths, before)
	}
	return k, nil
}

// renew gives a Secret a new certificate and path, and an authority if it has none.
func (id *Identity) renew(secret *corev1.Secret) error {
	now := id.Now()
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	authority, err := tls.X509KeyPair(secret.Data[keyAuthority], secret.Data[keyAuthorityKey])
	if err != nil || authority.Leaf.NotAfter.Before(now.Add(lifetime)) {
		template := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: "graven-operator webhook authority"}, NotBefore: now, NotAfter: now.Add(authorityLifetime),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		certPEM, keyPEM, err := sign(template, nil)
		if err != nil {
			return err
		}
		secret.Data[keyAuthority], secret.Data[keyAuthorityKey] = certPEM, keyPEM
		if authority, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
			return err
		}
	}
	template := &x509.Certificate{SerialNumber: serial(), Subject: pkix.Name{CommonName: id.Hosts[0]}, NotBefore: now, NotAfter: now.Add(lifetime),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, host := range id.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certPEM, keyPEM, err := sign(template, &authority)
	if err != nil {
		return err
	}
	if len(secret.Data[keyDigest]) != digestSize { // it stays, or all digests would change
		digest := make([]byte, digestSize)
		if _, err := rand.Read(digest); err != nil {
			return err
		}
		secret.Data[keyDigest] = digest
	}
	if was := secret.Data[keyPath]; len(was) > 0 {
		secret.Data[keyPathBefore] = was
	}
	secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey], secret.Data[keyPath] = certPEM, keyPEM, []byte(rand.Text())
	return nil
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand does not fail
	}
	return n
}

// sign makes a key and has its certificate signed by an authority, or by itself.
func sign(template *x509.Certificate, by *tls.Certificate) (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	parent, signer := template, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return nil, nil, err
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}), nil
}

// Digest returns the key of the digests that stand in the place of credentials, which
// all of several operators, and those after them, have in common; nil before it is
// loaded.
func (id *Identity) Digest() []byte {
	if d := id.digest.Load(); d != nil {
		return *d
	}
	return nil
}

// Secrets returns the words that begin good paths.
func (id *Identity) Secrets() []string {
	if k := id.current.Load(); k != nil {
		return k.paths
	}
	return nil
}

// TLS returns the configuration of a server with the identity, whatever it is then.
func (id *Identity) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		if k := id.current.Load(); k != nil {
			return &k.cert, nil
		}
		return nil, errors.New("there is no certificate yet")
	}}
}
