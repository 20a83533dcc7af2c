package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// A contest is several contenders who do the same work.
type contest struct {
	name string
	run  run // what differs from the usual
	// prepare, if not nil, makes what all runs share, below r.Dir. What it
	// returns, if not nil, ends it.
	prepare    func(ctx context.Context, r *run) (end func(), err error)
	contenders []string
	lines      []line
}

// A line compares two contenders, or holds one against a limit.
type line struct {
	what     string
	us, peer string // peer is empty where limit counts
	metric   metric
	goal     float64 // of the ratio, or of the metric itself
	atMost   bool    // the goal is an upper bound
}

// A metric is what a line compares.
type metric struct {
	unit string
	of   func(*Sample) float64
}

var (
	rate   = metric{"/s", (*Sample).rate}
	perCPU = metric{"/CPU-s", (*Sample).perCPU}
	p50    = metric{"s at p50", func(s *Sample) float64 { return s.P50.Seconds() }}
	p99    = metric{"s at p99", func(s *Sample) float64 { return s.P99.Seconds() }}
	p99ms  = metric{"ms", func(s *Sample) float64 { return 1e3 * s.P99.Seconds() }}
	peak   = metric{"MB", func(s *Sample) float64 { return float64(s.Peak) / 1e6 }}
	size   = metric{"B/event", func(s *Sample) float64 { return s.Notes["bytes"] / float64(s.Ops) }}
)

// noted is the metric of that name in a sample's notes.
func noted(name string) metric {
	return metric{name, func(s *Sample) float64 { return s.Notes[name] }}
}

// strong are the figures, per second of processor time, that contenders showed
// on a quiet machine. A round in which a peer falls below 80 % of that proves
// nothing: a slow opponent is no opponent. How much slower this machine is than
// that one the raw writer tells, which is never held back by itself.
var strong = map[string]float64{"raw writer": 278_000, "tessera": 50_000, "immudb": 20_000, "immudb in batches": 174_000, "bare server": 4_500}

const yardstick = "raw writer"

// A driver runs contests and prints what came out.
type driver struct {
	ctx    context.Context
	rounds int
	base   run
	out    io.Writer
	notes  []string
	failed bool
	// speed is that of this machine, of the one that strong is about.
	speed float64
}

// machine prints what the figures are of.
func (d *driver) machine() {
	fmt.Fprintf(d.out, "%s, %d cores, %s, load %s, %s\n", cpuModel(), runtime.NumCPU(), runtime.Version(), load(), time.Now().UTC().Format(time.DateOnly))
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if slices.Contains([]string{"github.com/transparency-dev/tessera", "github.com/codenotary/immudb", "modernc.org/sqlite"}, m.Path) {
				fmt.Fprintf(d.out, "%s %s\n", m.Path, m.Version)
			}
		}
	}
	fmt.Fprint(d.out, "\n| what | against | median (min – max) | goal | |\n|---|---|---|---|---|\n")
}

func cpuModel() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for l := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func load() string {
	data, _ := os.ReadFile("/proc/loadavg")
	first, _, _ := strings.Cut(string(data), " ")
	return first
}

// calibrate returns how fast the machine hashes at the moment.
func calibrate() float64 {
	buf := make([]byte, 1<<20)
	began := time.Now()
	n := 0
	for ; time.Since(began) < 150*time.Millisecond; n++ {
		sha256.Sum256(buf)
	}
	return float64(n) / time.Since(began).Seconds()
}

// A round is one run of all contenders.
type round struct {
	samples map[string]Sample
	doubt   string // why it proves nothing, if so
	steady  bool   // the machine was
}

// contest runs rounds until enough of them are good, and prints the lines.
func (d *driver) contest(c contest) error {
	r := d.base
	r.Producers, r.Batch, r.Rate = c.run.Producers, max(1, c.run.Batch), c.run.Rate
	if c.run.Duration != 0 {
		r.Duration = c.run.Duration
	}
	if c.run.Events != 0 {
		r.Events = c.run.Events
	}
	dir, err := os.MkdirTemp(r.Dir, "contest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	r.Dir = dir
	if c.prepare != nil {
		end, err := c.prepare(d.ctx, &r)
		if err != nil {
			return err
		}
		if end != nil {
			defer end()
		}
	}
	var good, doubtful, steady []round
	for n := 0; len(good) < d.rounds && n < 3*d.rounds; n++ {
		one, err := d.round(c, r, n)
		if err != nil {
			return err
		}
		if one.steady {
			steady = append(steady, one)
		}
		if one.doubt == "" {
			good = append(good, one)
		} else {
			doubtful = append(doubtful, one)
			fmt.Fprintf(os.Stderr, "%s: a round was dropped: %s\n", c.name, one.doubt)
		}
	}
	remark := ""
	if len(good) == 0 {
		good, remark = doubtful, fmt.Sprintf("no good round of %d (%s)", len(doubtful), doubtful[len(doubtful)-1].doubt)
	} else if len(good) < d.rounds {
		remark = fmt.Sprintf("%d good rounds of %d", len(good), len(good)+len(doubtful))
	}
	for _, l := range c.lines {
		all := ""
		if remark != "" && l.peer != "" && len(steady) > len(good) {
			lo, median, hi := spread(l, steady)
			all = fmt.Sprintf(", of all %d steady ones %.3gx (%.3g – %.3g)", len(steady), median, lo, hi)
		}
		d.line(l, good, remark+all)
	}
	for _, name := range c.contenders {
		d.notes = append(d.notes, describe(c.name, name, good))
	}
	return nil
}

// round runs all contenders, each time in another order.
func (d *driver) round(c contest, r run, n int) (round, error) {
	one := round{samples: map[string]Sample{}, steady: true}
	var speeds []float64
	for i := range c.contenders {
		name := c.contenders[(i+n)%len(c.contenders)]
		speeds = append(speeds, calibrate())
		s, err := start(d.ctx, name, r)
		if err != nil {
			return one, err
		}
		one.samples[name] = s
	}
	speeds = append(speeds, calibrate())
	if s, ok := one.samples[yardstick]; ok {
		d.speed = min(1, s.perCPU()/strong[yardstick])
	}
	for name, s := range one.samples {
		if want := 0.8 * strong[name] * d.speed; s.perCPU() < want && name != yardstick {
			one.doubt = fmt.Sprintf("%s made %.0f per second of processor time, on a quiet machine like this it makes %.0f", name, s.perCPU(), want/0.8)
		}
	}
	if lo, hi := slices.Min(speeds), slices.Max(speeds); hi > 1.3*lo {
		one.steady = false
		one.doubt = fmt.Sprintf("the machine was unsteady: it hashed %.0f to %.0f MB/s", lo, hi)
	}
	return one, nil
}

// spread returns a line's least, median and greatest figure over rounds.
func spread(l line, rounds []round) (lo, median, hi float64) {
	values := make([]float64, len(rounds))
	for i, r := range rounds {
		us := r.samples[l.us]
		values[i] = l.metric.of(&us)
		if l.peer != "" {
			peer := r.samples[l.peer]
			values[i] /= l.metric.of(&peer)
		}
	}
	slices.Sort(values)
	return values[0], values[len(values)/2], values[len(values)-1]
}

func (d *driver) line(l line, rounds []round, remark string) {
	lo, median, hi := spread(l, rounds)
	met, sign := median >= l.goal, "≥"
	if l.atMost {
		met, sign = median <= l.goal, "≤"
	}
	verdict := "met"
	switch {
	case l.goal == 0:
		verdict = ""
	case !met:
		verdict = "**missed**"
	}
	if remark != "" {
		verdict += "; " + remark
	}
	unit, goal := "x", fmt.Sprintf("%s %.3gx", sign, l.goal)
	if l.peer == "" {
		unit, goal = " "+l.metric.unit, fmt.Sprintf("%s %.3g %s", sign, l.goal, l.metric.unit)
	}
	if l.goal == 0 {
		goal = "—"
	}
	fmt.Fprintf(d.out, "| %s | %s | %.3g%s (%.3g – %.3g) | %s | %s |\n", l.what, l.peer, median, unit, lo, hi, goal, verdict)
}

// describe tells a contender's median figures.
func describe(contest, name string, rounds []round) string {
	of := func(m metric) float64 {
		values := make([]float64, len(rounds))
		for i, r := range rounds {
			s := r.samples[name]
			values[i] = m.of(&s)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	text := fmt.Sprintf("%s, %s: %.0f/s, %.0f/CPU-s, p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms, peak %.0f MB", contest, name, of(rate), of(perCPU),
		1e3*of(p50), 1e3*of(p99), 1e3*of(metric{of: func(s *Sample) float64 { return s.P999.Seconds() }}), of(peak))
	var names []string
	for n := range rounds[0].samples[name].Notes {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		text += fmt.Sprintf(", %s %.4g", n, of(noted(n)))
	}
	return text
}

// details prints each contender's own figures.
func (d *driver) details() {
	fmt.Fprint(d.out, "\nMedians of each contender:\n\n")
	for _, n := range d.notes {
		fmt.Fprintln(d.out, "- "+n)
	}
}
