// Package testenv gives tests the real programs that they need.
package testenv

import (
	"os"
	"os/exec"
	"sync"
	"testing"
)

// packages names the Debian package of each program that is not called like it.
var packages = map[string]string{"sha256sum": "coreutils", "bash": "bash"}

var installing sync.Mutex

// Need returns the path of a program, which is installed if the machine lacks
// it and lets us. Where that cannot be, the test is skipped, except in CI,
// where it fails.
func Need(t *testing.T, program string) string {
	t.Helper()
	if path, err := exec.LookPath(program); err == nil {
		return path
	}
	installing.Lock()
	defer installing.Unlock()
	name := program
	if p, ok := packages[program]; ok {
		name = p
	}
	why := "there is no apt-get, or we are not root"
	if apt, err := exec.LookPath("apt-get"); err == nil && os.Geteuid() == 0 {
		cmd := exec.Command("sh", "-c", apt+" update -qq && "+apt+" install -y -qq "+name)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		out, err := cmd.CombinedOutput()
		if path, lookErr := exec.LookPath(program); err == nil && lookErr == nil {
			return path
		}
		why = string(out)
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is not here and cannot be installed: %s", program, why)
	}
	t.Skipf("%s is not here and cannot be installed: %s", program, why)
	return ""
}
