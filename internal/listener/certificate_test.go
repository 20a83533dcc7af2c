package listener_test

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graven-audit/graven/internal/listener"
	"github.com/graven-audit/graven/internal/testenv"
)

func TestACertificateThatWasReplacedIsShownAndOneThatIsNoneIsNot(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	if _, err := listener.Certificate(cert, key, nil); err == nil {
		t.Error("there is no certificate, and nobody says so")
	}
	synctest.Test(t, func(t *testing.T) {
		testenv.Certificate(t, cert, key, 1)
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
		testenv.Certificate(t, cert, key, 2)
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
		testenv.Certificate(t, cert, key, 3)
		time.Sleep(10 * time.Second)
		must(3, 2, "with a new pair")
	})
}
