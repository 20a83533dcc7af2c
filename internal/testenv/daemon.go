package testenv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// A daemon is a server's process, with all that it has started.
type daemon struct {
	cmd    *exec.Cmd // nil while it does not run
	output bytes.Buffer
}

// start starts cmd and waits until ready says that it serves. It ends with the
// test's process, if nobody ends it before.
func (d *daemon) start(t testing.TB, cmd *exec.Cmd, ready func() bool) {
	t.Helper()
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGINT
	cmd.Stdout, cmd.Stderr = &d.output, &d.output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.cmd = cmd
	for deadline := time.Now().Add(time.Minute); !ready(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.Kill()
			t.Fatalf("%s does not start:\n%s", cmd.Path, d.output.Bytes())
		}
	}
}

// Kill kills the server and all that it has started, at once.
func (d *daemon) Kill() {
	if d.cmd == nil {
		return
	}
	d.Freeze() // so that it starts no more, nor do they go on without it
	for _, pid := range d.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = d.cmd.Wait() // it was told to end
	d.cmd = nil
}

// Freeze has the server, and all that it has started, stand still until Thaw.
func (d *daemon) Freeze() {
	for seen := 0; ; {
		all := d.processes()
		if len(all) <= seen {
			return
		}
		for _, pid := range all {
			_ = syscall.Kill(pid, syscall.SIGSTOP)
		}
		seen = len(all) // one may have started another before it stood still
	}
}

// Thaw ends what Freeze began.
func (d *daemon) Thaw() {
	for _, pid := range d.processes() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// processes returns the server's process and all that it has started, which may
// have groups of their own, as PostgreSQL's have.
func (d *daemon) processes() []int {
	children := map[int][]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		var pid, parent int
		var state string
		_, _ = fmt.Sscan(string(stat), &pid)
		// What stands in brackets is its name, which may have brackets.
		_, _ = fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &parent)
		children[parent] = append(children[parent], pid)
	}
	all := []int{d.cmd.Process.Pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// end sends a signal and waits until the server has ended.
func (d *daemon) end(signal syscall.Signal) {
	if d.cmd == nil {
		return
	}
	_ = syscall.Kill(d.cmd.Process.Pid, signal) // it may have ended by itself
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.cmd.Wait() // it was told to end
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		for _, pid := range d.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-done
	}
	d.cmd = nil
}
