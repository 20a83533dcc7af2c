// Package testenv gives tests the real programs that they need.
package testenv

import (
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// packages names the Debian package of each program that is not called like it.
var packages = map[string]string{"sha256sum": "coreutils", "bash": "bash"}

var installing sync.Mutex

// Need returns the path of a program, which is installed if the machine lacks
// it and lets us. Where that cannot be, the test is skipped, except in CI,
// where it fails.
func Need(t testing.TB, program string) string {
	t.Helper()
	find := func() string {
		path, err := exec.LookPath(program)
		if err != nil {
			return ""
		}
		return path
	}
	if path := find(); path != "" {
		return path
	}
	name := program
	if p, ok := packages[program]; ok {
		name = p
	}
	return install(t, name, find)
}

// install installs a Debian package, after which find finds what is needed.
func install(t testing.TB, name string, find func() string) string {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	if path := find(); path != "" {
		return path // another test was faster
	}
	why := "there is no apt-get, or we are not root"
	if apt, err := exec.LookPath("apt-get"); err == nil && os.Geteuid() == 0 {
		cmd := exec.Command("sh", "-c", apt+" update -qq && "+apt+" install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "+name)
		// In runlevel 1 no package starts a server of its own.
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
		out, err := cmd.CombinedOutput()
		if path := find(); err == nil && path != "" {
			return path
		}
		why = string(out)
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not here and cannot be installed: %s", name, why)
	}
	t.Skipf("%s is not here and cannot be installed: %s", name, why)
	return ""
}

// Eventually waits until something holds, for a minute.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited for a minute in vain: %s", what)
		}
	}
}
