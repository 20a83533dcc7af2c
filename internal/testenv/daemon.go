package testenv

import (
	"bytes"
	"os/exec"
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
func (d *daemon) Kill() { d.end(syscall.SIGKILL) }

// Freeze has the server, and all that it has started, stand still until Thaw.
func (d *daemon) Freeze() { _ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGSTOP) }

// Thaw ends what Freeze began.
func (d *daemon) Thaw() { _ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGCONT) }

// end sends a signal and waits until the server has ended.
func (d *daemon) end(signal syscall.Signal) {
	if d.cmd == nil {
		return
	}
	to := d.cmd.Process.Pid
	if signal == syscall.SIGKILL {
		to = -to
	}
	_ = syscall.Kill(to, signal) // it may have ended by itself
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = d.cmd.Wait() // it was told to end
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
		<-done
	}
	d.cmd = nil
}
