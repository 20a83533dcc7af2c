package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A Postgres is a PostgreSQL server of a test's own, on a Unix socket.
type Postgres struct {
	t     testing.TB
	bin   string // directory of its programs
	dir   string // its own, with the data in data
	as    *syscall.Credential
	args  []string
	count atomic.Int64
	daemon
}

// StartPostgres starts a PostgreSQL server, which ends with the test. Settings
// are of the form NAME=VALUE. Databases and all else belong to the role
// "postgres".
func StartPostgres(t testing.TB, settings ...string) *Postgres {
	t.Helper()
	p := &Postgres{t: t, bin: filepath.Dir(needPostgres(t))}
	var err error
	// The test's own directory is not for others, and its name may be too long
	// for a socket.
	if p.dir, err = os.MkdirTemp("", "pg"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(p.dir) })
	if p.as, err = unprivileged(p.dir); err != nil {
		t.Fatal(err)
	}
	p.run("initdb", "-D", p.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	p.args = []string{"-D", p.data(), "-k", p.dir, "-c", "listen_addresses=", "-c", "logging_collector=off"}
	for _, s := range settings {
		p.args = append(p.args, "-c", s)
	}
	t.Cleanup(p.Stop)
	p.Start()
	return p
}

// needPostgres returns the path of the server's program.
func needPostgres(t testing.TB) string {
	t.Helper()
	find := func() string {
		// The other programs stand beside it.
		if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres"); len(found) > 0 {
			return slices.Max(found)
		}
		path, _ := exec.LookPath("postgres")
		return path
	}
	if path := find(); path != "" {
		return path
	}
	// Debian's package would start a server of its own.
	const dir = "/etc/postgresql-common"
	if os.Geteuid() == 0 && os.MkdirAll(dir, 0o755) == nil {
		conf, err := os.OpenFile(dir+"/createcluster.conf", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err == nil {
			fmt.Fprintln(conf, "create_main_cluster = false")
			conf.Close()
		}
	}
	return install(t, "postgresql", find)
}

// unprivileged returns whom PostgreSQL runs as, for it refuses to be root, and
// gives dir to them. It is nil where we are not root.
func unprivileged(dir string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

// Holds returns the server's files that hold a text.
func (p *Postgres) Holds(text []byte) (names []string) {
	err := filepath.WalkDir(p.data(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, text) {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return names
}

// run runs a program to its end.
func (p *Postgres) run(program string, args ...string) {
	p.t.Helper()
	if out, err := p.program(program, args...).CombinedOutput(); err != nil {
		p.t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// program returns one of PostgreSQL's programs, or another that has a path, which
// runs as the server's user.
func (p *Postgres) program(program string, args ...string) *exec.Cmd {
	if !filepath.IsAbs(program) {
		program = filepath.Join(p.bin, program)
	}
	cmd := exec.Command(program, args...)
	cmd.Dir, cmd.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: p.as}
	return cmd
}

// Start starts the server again after [Postgres.Stop] or [Postgres.Kill].
func (p *Postgres) Start() {
	p.t.Helper()
	p.start(p.t, p.program("postgres", p.args...), func() bool {
		return exec.Command(filepath.Join(p.bin, "pg_isready"), "-q", "-h", p.dir).Run() == nil
	})
}

// Stop stops the server as its operator would who is in a hurry.
func (p *Postgres) Stop() { p.end(syscall.SIGINT) }

// Copy copies the server's data, which must not run, and returns what puts the
// copy in the place of what is there then.
func (p *Postgres) Copy() (restore func()) {
	p.t.Helper()
	from := filepath.Join(p.dir, "copy")
	p.copy(p.data(), from)
	return func() {
		p.t.Helper()
		if err := os.RemoveAll(p.data()); err != nil {
			p.t.Fatal(err)
		}
		p.copy(from, p.data())
	}
}

func (p *Postgres) copy(from, to string) {
	p.t.Helper()
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		p.t.Fatalf("cp: %v\n%s", err, out)
	}
}

// Promote makes the server one that was promoted from a standby: it starts as
// that and goes on with a history of its own.
func (p *Postgres) Promote() {
	p.t.Helper()
	p.Stop()
	signal := filepath.Join(p.data(), "standby.signal")
	if err := os.WriteFile(signal, nil, 0o644); err != nil {
		p.t.Fatal(err)
	}
	p.Start()
	p.SQL("postgres", "SELECT pg_promote()")
}

// DSN returns the address of a database, for a role.
func (p *Postgres) DSN(database, role string) string {
	return fmt.Sprintf("postgres://%s@/%s?%s", role, database, url.Values{"host": {p.dir}}.Encode())
}

// Database makes a new, empty database and returns its name.
func (p *Postgres) Database() string {
	p.t.Helper()
	name := fmt.Sprintf("test%d", p.count.Add(1))
	p.SQL("postgres", "CREATE DATABASE "+name)
	return name
}

// SQL runs statements in a database as the superuser and returns what they
// print, unaligned and without heads.
func (p *Postgres) SQL(database, statements string) string {
	p.t.Helper()
	out, err := p.TrySQL("postgres", database, statements)
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", statements, err, out)
	}
	return out
}

// TrySQL is SQL for a role, and may fail; then it returns what psql says.
func (p *Postgres) TrySQL(role, database, statements string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, "psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", p.DSN(database, role))
	cmd.Stdin = bytes.NewBufferString(statements)
	out, err := cmd.CombinedOutput()
	return string(bytes.TrimSpace(out)), err
}

// Limit has no file of the server grow beyond so many bytes, as a quota would.
// What it returns ends that.
func (p *Postgres) Limit(bytes int64) (lift func()) {
	set := func(limit string) {
		p.t.Helper()
		server := p.cmd.Process.Pid // whom those inherit it from that it starts
		p.run("/usr/bin/prlimit", "--pid", strconv.Itoa(server), "--fsize="+limit+":")
		for pid := range p.processes() {
			if out, err := p.program("/usr/bin/prlimit", "--pid", strconv.Itoa(pid), "--fsize="+limit+":").CombinedOutput(); err != nil && syscall.Kill(pid, 0) == nil {
				p.t.Fatalf("prlimit: %v\n%s", err, out)
			}
		}
	}
	p.t.Helper()
	set(strconv.FormatInt(bytes, 10))
	return func() { p.t.Helper(); set("unlimited") }
}
