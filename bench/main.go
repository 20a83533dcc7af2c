// Command bench measures Graven beside its peers and beside raw writers, and
// prints ratios. Each contender runs in a process of its own, all of a contest
// in turn, several rounds: a busy machine slows all of them alike.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"time"
)

func main() {
	if path := os.Getenv(envServe); path != "" {
		fatal(serveBare(path))
	}
	if name := os.Getenv(envContender); name != "" {
		if err := perform(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 5, "how many good rounds a contest takes")
	duration := flag.Duration("time", 4*time.Second, "how long a contender writes")
	events := flag.Int64("events", 1_000_000, "size of the large ledger")
	only := flag.String("only", "", "run contests whose name matches this regular expression")
	graven := flag.String("graven", "../bin/graven", "the server to measure over HTTP")
	dir := flag.String("dir", "", "where to write, a directory on the disk to be measured (default: a temporary one)")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *dir != "" {
		// Servers put what they need where temporary files are.
		if err := os.Setenv("TMPDIR", *dir); err != nil {
			fatal(err)
		}
	}
	work, err := os.MkdirTemp("", "graven-bench-")
	if err != nil {
		fatal(err)
	}
	defer os.RemoveAll(work)
	d := &driver{ctx: ctx, speed: 1, rounds: *rounds, out: os.Stdout, base: run{Duration: *duration, Events: *events, Dir: work, Graven: *graven}}
	d.machine()
	for _, c := range contests {
		if match.MatchString(c.name) {
			if err := d.contest(c); err != nil {
				fmt.Fprintf(os.Stdout, "| %s | — | — | — | not measured: %v |\n", c.name, err)
				d.failed = true
			}
		}
	}
	d.details()
	if d.failed {
		os.RemoveAll(work)
		os.Exit(1)
	}
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}
