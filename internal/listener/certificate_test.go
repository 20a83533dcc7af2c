package listener_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/internal/listener"
)

// replace puts a new certificate with a serial number into files.
func replace(t *testing.T, cert, key string, serial int64) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		// As a Secret in a cluster is: the new file takes the old one's place.
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(&block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestACertificateThatWasReplacedIsShownAndOneThatIsNoneIsNot(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := listener.Certificate(cert, key, nil); err == nil {
		t.Error("there is no certificate, and nobody says so")
	}
	synctest.Test(t, func(t *testing.T) {
		replace(t, cert, key, 1)
		warned := 0
		get, err := listener.Certificate(cert, key, func(error) { warned++ })
		if err != nil {
			t.Fatal(err)
		}
		must := func(serial int64, warnings int, what string) {
			t.Helper()
			c, err := get(nil)
			if err != nil || c.Leaf.SerialNumber.Int64() != serial || warned != warnings {
				t.Errorf("%s: %v, serial number %v, %d warnings; want %d, %d", what, err, c.Leaf.SerialNumber, warned, serial, warnings)
			}
		}
		replace(t, cert, key, 2)
		must(1, 0, "at once")
		time.Sleep(10 * time.Second)
		must(2, 0, "ten seconds later")
		if err := os.WriteFile(key, []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		must(2, 1, "with a key that is none")
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		must(2, 2, "without a key")
		replace(t, cert, key, 3)
		time.Sleep(10 * time.Second)
		must(3, 2, "with a new pair")
	})
}
