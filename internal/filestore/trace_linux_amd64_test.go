package filestore_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// A call is a system call on a file of the data directory.
type call struct {
	name string
	file string // relative to the directory
}

// A fault is what happens to one call.
type fault struct {
	name  string
	errno syscall.Errno // what it fails with
	done  bool          // and yet does its work
	short bool          // half of what is to be written is
	kill  bool          // the program is killed before it or, with done, behind it
}

// applies reports whether a fault makes sense for a call.
func (f fault) applies(c call) bool {
	writes := c.name == "write" || c.name == "pwrite64"
	switch {
	case f.short:
		return writes
	case f.errno == syscall.ENOSPC:
		return writes || c.name != "read" && c.name != "pread64" && c.name != "close" && c.name != "flock"
	case c.name == "close": // it is closed, whatever it says
		return f.kill || f.done
	}
	return true
}

// calls are the system calls that are counted, by number, with the registers
// that hold a descriptor or a path. What is read of the directory is among them.
var calls = map[uint64]struct {
	name string
	path int // the argument with the path, or -1: the first is a descriptor
}{
	0: {"read", -1}, 1: {"write", -1}, 3: {"close", -1}, 17: {"pread64", -1}, 18: {"pwrite64", -1},
	73: {"flock", -1}, 74: {"fsync", -1}, 75: {"fdatasync", -1}, 77: {"ftruncate", -1}, 217: {"getdents64", -1}, 285: {"fallocate", -1},
	2: {"open", 0}, 82: {"rename", 0}, 83: {"mkdir", 0}, 87: {"unlink", 0},
	257: {"openat", 1}, 258: {"mkdirat", 1}, 263: {"unlinkat", 1}, 264: {"renameat", 1}, 316: {"renameat2", 1},
}

// trace runs a program under ptrace, and has a fault happen to the nth call on a
// file below dir; -1 means none. It returns the calls that it saw, up to the
// fault and behind it. strace counts calls by thread, of which a Go program has
// many, and its short writes write nothing; this counts all, and they write half.
func trace(dir string, argv, env []string, stdout *os.File, nth int, f fault) (seen []call, err error) {
	runtime.LockOSThread() // only the thread that traces may ask and wait
	defer runtime.UnlockOSThread()
	pid, err := syscall.ForkExec(argv[0], argv, &syscall.ProcAttr{Env: env, Files: []uintptr{0, stdout.Fd(), stdout.Fd()},
		Sys: &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return nil, err
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		return nil, err
	}
	const exitKill = 1 << 20
	if err := syscall.PtraceSetOptions(pid, syscall.PTRACE_O_TRACESYSGOOD|syscall.PTRACE_O_TRACECLONE|exitKill); err != nil {
		return nil, errors.Join(err, syscall.Kill(pid, syscall.SIGKILL))
	}
	inside := map[int]bool{}           // a thread is in a call
	failing := map[int]syscall.Errno{} // what it is to be told
	killing := map[int]bool{}
	resume := func(tid int, signal syscall.Signal) error {
		if err := syscall.PtraceSyscall(tid, int(signal)); !errors.Is(err, syscall.ESRCH) { // killed meanwhile
			return err
		}
		return nil
	}
	if err := resume(pid, 0); err != nil {
		return nil, err
	}
	for {
		tid, err := syscall.Wait4(-1, &status, syscall.WALL|0x20000000 /* __WNOTHREAD */, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return seen, fmt.Errorf("wait: %w", err)
		}
		if status.Exited() || status.Signaled() {
			delete(inside, tid)
			if tid == pid {
				return seen, nil
			}
			continue
		}
		signal := status.StopSignal()
		switch {
		case signal == syscall.SIGTRAP|0x80 && !inside[tid]:
			inside[tid] = true
			var regs syscall.PtraceRegs
			if syscall.PtraceGetRegs(tid, &regs) != nil {
				break
			}
			c, ok := recognize(tid, dir, &regs)
			if !ok {
				break
			}
			if seen = append(seen, c); len(seen) != nth+1 || !f.applies(c) {
				break
			}
			switch {
			case f.kill && !f.done:
				err = syscall.Kill(pid, syscall.SIGKILL)
			case f.kill:
				killing[tid] = true
			case f.short:
				regs.Rdx = max(regs.Rdx/2, 1)
				err = syscall.PtraceSetRegs(tid, &regs)
			default:
				failing[tid] = f.errno
				if !f.done {
					regs.Orig_rax = ^uint64(0) // there is no such call
					err = syscall.PtraceSetRegs(tid, &regs)
				}
			}
			if err != nil {
				return seen, err
			}
		case signal == syscall.SIGTRAP|0x80:
			inside[tid] = false
			if errno, ok := failing[tid]; ok {
				delete(failing, tid)
				var regs syscall.PtraceRegs
				if err := syscall.PtraceGetRegs(tid, &regs); err != nil {
					return seen, err
				}
				regs.Rax = uint64(-int64(errno))
				if err := syscall.PtraceSetRegs(tid, &regs); err != nil {
					return seen, err
				}
			}
			if killing[tid] {
				delete(killing, tid)
				if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
					return seen, err
				}
			}
		case signal == syscall.SIGTRAP || signal == syscall.SIGSTOP: // a thread is born
		default:
			if err := resume(tid, signal); err != nil {
				return seen, err
			}
			continue
		}
		if err := resume(tid, 0); err != nil {
			return seen, err
		}
	}
}

// recognize tells what call a thread begins, if it is one on a file below dir.
func recognize(tid int, dir string, regs *syscall.PtraceRegs) (call, bool) {
	k, ok := calls[regs.Orig_rax]
	if !ok {
		return call{}, false
	}
	var path string
	switch k.path {
	case -1:
		path, _ = os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", tid, int32(regs.Rdi)))
	case 0:
		path = stringAt(tid, regs.Rdi)
	case 1:
		path = stringAt(tid, regs.Rsi)
	}
	file, err := filepath.Rel(dir, path)
	if err != nil || strings.HasPrefix(file, "..") {
		return call{}, false
	}
	return call{k.name, file}, true
}

// stringAt reads a string of a program that is stopped.
func stringAt(tid int, at uint64) string {
	var buf [512]byte
	n, _ := syscall.PtracePeekData(tid, uintptr(at), buf[:])
	text, _, _ := strings.Cut(string(buf[:max(n, 0)]), "\x00")
	return text
}
