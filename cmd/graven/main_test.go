package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/graven-audit/graven/internal/testenv"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"graven": main, "attack": attack})
}

// TestScripts runs the scripts in testdata/script, which a user could type.
// Beside testscript's own commands there are
//
//	serve DIR       start a server on DIR and tell client commands of it
//	halt [KILL]     stop the server, with SIGTERM or SIGKILL
//	flip FILE BYTE  flip a bit of a byte of a file; negative counts from the end
//	lines FILE N    demand that a file has N lines
//	taken ADDRESS   see to it that something listens on ADDRESS
func TestScripts(t *testing.T) {
	for _, tool := range []string{"curl", "jq", "unzip"} {
		testenv.Need(t, tool)
	}
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", bin+"/", "github.com/graven-audit/graven/cmd/graven-verify").CombinedOutput(); err != nil {
		t.Fatalf("build graven-verify: %v\n%s", err, out)
	}
	var server *testenv.Postgres
	once := sync.OnceFunc(func() { server = testenv.StartPostgres(t) })
	// database makes a database, of which OWNER is the address for its owner and
	// STORE for a server, whose role is ROLE; sql runs a statement in it as the superuser.
	database := func(ts *testscript.TestScript, neg bool, args []string) {
		once()
		name := server.Database()
		server.SQL(name, "CREATE ROLE "+name+" LOGIN") // of the same name: scripts run at the same time
		ts.Setenv("DATABASE", name)
		ts.Setenv("OWNER", server.DSN(name, "postgres"))
		ts.Setenv("STORE", server.DSN(name, name))
		ts.Setenv("ROLE", name)
	}
	sql := func(ts *testscript.TestScript, neg bool, args []string) {
		out, err := server.TrySQL("postgres", ts.Getenv("DATABASE"), args[0])
		if err != nil {
			ts.Fatalf("%s", out)
		}
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", "script"),
		Setup: func(env *testscript.Env) error {
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			env.Setenv("HOME", env.WorkDir)
			audit, err := filepath.Abs(filepath.Join("..", "..", "examples", "kube-apiserver-audit.jsonl"))
			env.Setenv("AUDIT", audit)
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+bin)
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"serve": cmdServe, "halt": cmdHalt, "flip": cmdFlip, "lines": cmdLines, "until": cmdUntil, "taken": cmdTaken, "database": database, "sql": sql,
		},
	})
}

// A daemon is a server in a process of its own.
type daemon struct {
	cmd *exec.Cmd
	url string
}

// startDaemon starts a server on dir and waits until it serves. It looks for findings
// only if it is told to: they would come at any time, and tests count entries.
func startDaemon(dir string, env []string, args ...string) (*daemon, error) {
	return start(exec.Command("graven", append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0", "--findings=false"}, args...)...), env)
}

// start starts a program that tells its url once it serves.
func start(cmd *exec.Cmd, env []string) (*daemon, error) {
	d := &daemon{cmd: cmd}
	d.cmd.Env = env
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := d.cmd.Start(); err != nil {
		return nil, err
	}
	found, ended := make(chan string, 1), make(chan string, 1)
	go func() {
		var all strings.Builder
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			fmt.Fprintln(&all, lines.Text())
			if _, rest, ok := strings.Cut(lines.Text(), "url="); ok && (strings.Contains(lines.Text(), "msg=serving") || strings.Contains(lines.Text(), "msg=witnessing")) {
				found <- strings.Fields(rest)[0]
			}
		}
		ended <- all.String()
	}()
	select {
	case d.url = <-found:
		return d, nil
	case text := <-ended:
		return nil, fmt.Errorf("the server ended: %v\n%s", d.cmd.Wait(), text)
	case <-time.After(time.Minute):
		d.cmd.Process.Kill()
		return nil, fmt.Errorf("the server does not serve")
	}
}

func (d *daemon) stop(sig syscall.Signal) error {
	if err := d.cmd.Process.Signal(sig); err != nil {
		return err
	}
	err := d.cmd.Wait()
	if sig == syscall.SIGKILL {
		return nil
	}
	return err
}

// scriptMu guards daemons: scripts run at the same time.
var scriptMu sync.Mutex

// daemons are the servers of the scripts that run, by their work directory.
var daemons = map[string]*daemon{}

func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 1 {
		ts.Fatalf("usage: serve DIR [flags]")
	}
	dir := ts.MkAbs(args[0])
	d, err := startDaemon(dir, append(os.Environ(), "HOME="+ts.Getenv("HOME")), args[1:]...)
	if neg {
		if err == nil {
			d.stop(syscall.SIGKILL)
			ts.Fatalf("the server started")
		}
		ts.Logf("%v", err)
		return
	}
	ts.Check(err)
	key := ts.MkAbs(".")
	scriptMu.Lock()
	daemons[key] = d
	scriptMu.Unlock()
	ts.Defer(func() {
		scriptMu.Lock()
		defer scriptMu.Unlock()
		if daemons[key] == d {
			d.stop(syscall.SIGKILL)
			delete(daemons, key)
		}
	})
	ts.Setenv("GRAVEN_URL", d.url)
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if errors.Is(err, os.ErrNotExist) {
		return // the token of the server before is good
	}
	ts.Check(err)
	ts.Setenv("GRAVEN_TOKEN", strings.TrimSpace(string(token)))
}

func cmdHalt(ts *testscript.TestScript, _ bool, args []string) {
	key := ts.MkAbs(".")
	scriptMu.Lock()
	d := daemons[key]
	delete(daemons, key)
	scriptMu.Unlock()
	if d == nil {
		ts.Fatalf("no server runs")
	}
	sig := syscall.SIGTERM
	if len(args) == 1 && args[0] == "KILL" {
		sig = syscall.SIGKILL
	}
	ts.Check(d.stop(sig))
}

func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	var at int
	if _, err := fmt.Sscan(args[1], &at); err != nil {
		ts.Fatalf("flip: %v", err)
	}
	paths, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(paths) == 0 {
		ts.Fatalf("flip: no file %s", args[0])
	}
	path := paths[len(paths)-1]
	data, err := os.ReadFile(path)
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(path, data, 0o600))
}

func cmdLines(ts *testscript.TestScript, _ bool, args []string) {
	if got := strings.Count(ts.ReadFile(args[0]), "\n"); fmt.Sprint(got) != args[1] {
		ts.Fatalf("%s has %d lines, want %s", args[0], got, args[1])
	}
}

// cmdUntil runs a command again and again until it prints a text, which a server's
// background may take a while to bring about.
func cmdUntil(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until text command [arguments]")
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[1], args[2:]...)
		if err == nil && strings.Contains(ts.ReadFile("stdout"), args[0]) {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%v does not print %q: %v", args[1:], args[0], err)
		}
	}
}

// cmdTaken sees to it that something listens on an address until the end of
// the script.
func cmdTaken(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: taken address")
	}
	l, err := net.Listen("tcp", args[0])
	switch {
	case errors.Is(err, syscall.EADDRINUSE): // by another
	case err != nil:
		ts.Fatalf("listen: %v", err)
	default:
		ts.Defer(func() { l.Close() })
	}
}
