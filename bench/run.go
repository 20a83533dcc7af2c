package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime/pprof"
	"strings"
	"time"
)

// A run is how a contender is to run.
type run struct {
	Duration  time.Duration
	Producers int
	Batch     int     // events of one operation
	Events    int64   // of a large ledger
	Dir       string  // empty, removed afterwards
	Data      string  // directory that all runs of a contest share
	Database  string  // address of a PostgreSQL server's database, likewise
	Graven    string  // the program
	Rate      float64 // operations a second, where they come at a given rate
}

const (
	envContender = "GRAVEN_BENCH_CONTENDER"
	envRun       = "GRAVEN_BENCH_RUN"
	// envProfile names a file for the contender's processor profile.
	envProfile = "GRAVEN_BENCH_PROFILE"
)

// start runs a contender in a new process and returns what it measured.
func start(ctx context.Context, name string, r run) (Sample, error) {
	var s Sample
	dir, err := os.MkdirTemp(r.Dir, "run-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	r.Dir = dir
	arg, err := json.Marshal(r)
	if err != nil {
		return s, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envContender+"="+name, envRun+"="+string(arg))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return s, fmt.Errorf("%s: %w: %s", name, err, stderr.String())
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return s, nil
}

// perform runs the contender that the environment names.
func perform(name string) error {
	var r run
	if err := json.Unmarshal([]byte(os.Getenv(envRun)), &r); err != nil {
		return err
	}
	fn, ok := contenders[name]
	if !ok {
		return fmt.Errorf("no contender %s", name)
	}
	if path := os.Getenv(envProfile); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer func() { pprof.StopCPUProfile(); f.Close() }()
	}
	s, err := fn(r)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}
