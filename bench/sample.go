package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Sample is what one run of a contender measured.
type Sample struct {
	Ops   int64         // events, proofs, bytes: whatever the contest counts
	Wall  time.Duration // of the measured part
	CPU   time.Duration // of the contender, user and system
	P50   time.Duration
	P99   time.Duration
	P999  time.Duration
	Peak  int64              // resident memory at its highest, bytes
	Notes map[string]float64 // what else a reader wants to know
}

func (s *Sample) rate() float64   { return float64(s.Ops) / s.Wall.Seconds() }
func (s *Sample) perCPU() float64 { return float64(s.Ops) / s.CPU.Seconds() }

func (s *Sample) note(name string, v float64) {
	if s.Notes == nil {
		s.Notes = map[string]float64{}
	}
	s.Notes[name] = v
}

// latencies sets the percentiles.
func (s *Sample) latencies(all []time.Duration) {
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
	s.P50, s.P99, s.P999 = at(0.5), at(0.99), at(0.999)
}

// A meter measures this process.
type meter struct {
	began time.Time
	cpu   time.Duration
}

func startMeter() meter { return meter{time.Now(), cpuOf(os.Getpid())} }

func (m meter) stop(s *Sample) {
	s.Wall, s.CPU = time.Since(m.began), cpuOf(os.Getpid())-m.cpu
	s.Peak = memory(os.Getpid(), "VmHWM")
}

// cpuOf returns the processor time that a process has used.
func cpuOf(pid int) time.Duration {
	if pid == os.Getpid() {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			panic(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * time.Second / 100 // USER_HZ
}

// memory reads a line of /proc/PID/status, in bytes.
func memory(pid int, name string) int64 {
	f, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer f.Close()
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), name+":"); ok {
			kb, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10
		}
	}
	return 0
}
