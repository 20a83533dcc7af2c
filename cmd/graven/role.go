package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// newRole hands the command on to graven-operator, which has what it takes to talk
// to a cluster: linked into the server, that would take a third of its memory.
func newRole() *cobra.Command {
	return &cobra.Command{
		Use:   "role ensure|grant|revoke|list",
		Short: "Grant and revoke the roles of a cluster (by graven-operator)",
		Example: `  graven role grant john@company.com operator
  graven role list`,
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := beside("graven-operator")
			if err != nil {
				return err
			}
			return fmt.Errorf("run %s: %w", path, syscall.Exec(path, append([]string{path, "role"}, args...), os.Environ()))
		},
	}
}

// beside returns the path of a program that stands beside this one, or in PATH.
func beside(name string) (string, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if path, err = exec.LookPath(name); errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("there is no %s beside %s or in PATH: it comes with graven", name, self)
	}
	return path, err
}
