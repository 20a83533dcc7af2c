package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/graven-audit/graven/client"
)

// bareChannel is the least that a caller can do who wants an event on the disk:
// it sends it into a channel, from which a goroutine takes what there is,
// appends it to a file, syncs that and answers.
func bareChannel(r run) (Sample, error) {
	type item struct {
		data []byte
		done chan error
	}
	f, err := os.Create(filepath.Join(r.Dir, "bare"))
	if err != nil {
		return Sample{}, err
	}
	queue, ended := make(chan item, 4096), make(chan struct{})
	go func() {
		defer close(ended)
		for first := range queue {
			pool, buf := []item{first}, append([]byte(nil), first.data...)
			for len(queue) > 0 {
				next := <-queue
				pool, buf = append(pool, next), append(buf, next.data...)
			}
			_, err := f.Write(buf)
			if err == nil {
				err = unix.Fdatasync(int(f.Fd()))
			}
			for _, it := range pool {
				it.done <- err
			}
		}
	}()
	s, err := come(r, func(n int64) error {
		it := item{newBytes(n), make(chan error, 1)}
		queue <- it
		return <-it.done
	})
	close(queue)
	<-ended
	return s, errors.Join(err, f.Close())
}

// come measures calls of fn that come at a rate of r.Rate.
func come(r run, fn func(n int64) error) (Sample, error) {
	var s Sample
	m := startMeter()
	all, err := openLoop(r, fn)
	m.stop(&s)
	s.Ops = int64(len(all))
	s.latencies(all)
	return s, err
}

// recorder records events by way of a spool, which a server empties meanwhile.
// All of them must be in its ledger at the end.
func recorder(r run) (s Sample, err error) {
	srv, err := startGraven(r.Graven, filepath.Join(r.Dir, "data"))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	c, err := client.New(client.Config{URL: srv.url, Token: srv.token})
	if err != nil {
		return s, err
	}
	rec, err := c.NewRecorder(client.RecorderConfig{Dir: filepath.Join(r.Dir, "spool"), Source: "bench"})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, rec.Close()) }()
	ctx := context.Background()
	record := func(n int64) error { return rec.Record(ctx, newEvent(n)) }
	warm := r
	warm.Duration /= 8
	if _, err := openLoop(warm, record); err != nil {
		return s, err
	}
	if err := rec.Flush(ctx); err != nil {
		return s, err
	}
	before := heap()
	s, err = come(r, record)
	if err != nil {
		return s, err
	}
	if err := rec.Flush(ctx); err != nil {
		return s, err
	}
	after := heap()
	s.note("MB kept", (float64(after.HeapAlloc)-float64(before.HeapAlloc))/1e6)
	s.note("allocations an event, delivery and making it included", float64(after.Mallocs-before.Mallocs)/float64(s.Ops))
	return s, complete(ctx, c, rec.Stats())
}

// complete says what is missing of what was recorded, or twice there.
func complete(ctx context.Context, c *client.Client, st client.Stats) error {
	var list struct{ Total int64 }
	if err := c.Get(ctx, "/api/v1/audit", map[string][]string{"type": {"RemediationExecuted"}, "limit": {"1"}}, &list); err != nil {
		return err
	}
	if st.Recorded == 0 || list.Total != st.Recorded || st.Pending != 0 || st.Quarantined != 0 || st.Refused != 0 {
		return fmt.Errorf("the ledger has %d events of those that were recorded: %+v", list.Total, st)
	}
	return nil
}

// heap returns what is in use, and how often something was allocated.
func heap() (m runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}
