package testenv

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	cmd.WaitDelay = 10 * time.Second // for the output of what it has left behind
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	d.cmd = cmd
	for deadline := time.Now().Add(time.Minute); !ready(); time.Sleep(20 * time.Millisecond) {
		stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		if _, rest, _ := bytes.Cut(stat, []byte(") ")); bytes.HasPrefix(rest, []byte("Z")) || time.Now().After(deadline) {
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
	for pid := range d.processes() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = d.cmd.Wait() // it was told to end
	d.cmd = nil
}

// Freeze has the server, and all that it has started, stand still until Thaw.
func (d *daemon) Freeze() {
	for moving := true; moving; {
		moving = false
		for pid, still := range d.processes() { // one may have started another before it stood still
			if !still {
				_ = syscall.Kill(pid, syscall.SIGSTOP)
				moving = true
			}
		}
	}
}

// Thaw ends what Freeze began.
func (d *daemon) Thaw() {
	for pid := range d.processes() {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// processes returns the server's process and all that it has started, which may
// have groups of their own, as PostgreSQL's have, and whether each stands still
// or has ended.
func (d *daemon) processes() map[int]bool {
	children, still := map[int][]int{}, map[int]bool{}
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
		still[pid] = strings.Contains("TtZX", state)
	}
	all := map[int]bool{}
	for list := []int{d.cmd.Process.Pid}; len(list) > 0; list = list[1:] {
		pid := list[0]
		if is, there := still[pid]; there {
			all[pid] = is
		}
		list = append(list, children[pid]...)
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
		for pid := range d.processes() {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		<-done
	}
	d.cmd = nil
}
