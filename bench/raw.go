package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/graven-audit/graven/trail"
)

// producers runs n producers for as long as the run lasts, each of which calls
// fn, which records one operation of count events, again and again.
func producers(r run, n int, count int64, fn func(producer int, seq int64) error) (Sample, error) {
	var s Sample
	var wg sync.WaitGroup
	latencies := make([][]time.Duration, n)
	errs := make([]error, n)
	// The first part of a run fills caches and is not measured.
	warm := time.Now().Add(r.Duration / 8)
	end := time.Now().Add(r.Duration)
	var once sync.Once
	var m meter
	for p := range n {
		wg.Go(func() {
			for seq := int64(0); ; seq++ {
				began := time.Now()
				if began.After(end) {
					return
				}
				if err := fn(p, seq); err != nil {
					errs[p] = err
					return
				}
				if began.After(warm) {
					once.Do(func() { m = startMeter() })
					latencies[p] = append(latencies[p], time.Since(began))
				}
			}
		})
	}
	wg.Wait()
	m.stop(&s)
	var all []time.Duration
	for p := range n {
		if errs[p] != nil {
			return s, errs[p]
		}
		all = append(all, latencies[p]...)
	}
	s.Ops = int64(len(all)) * count
	s.latencies(all)
	return s, nil
}

// rawWriter is the least that a durable Merkle log can do: leaf and tree
// hashing, append, one fdatasync for all that wait.
func rawWriter(r run) (Sample, error) {
	type request struct {
		leaf tlog.Hash
		data []byte
		done chan error
	}
	f, err := os.Create(filepath.Join(r.Dir, "raw"))
	if err != nil {
		return Sample{}, err
	}
	defer f.Close()
	queue := make(chan *request, 8192)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var tree trail.Tree
		var buf []byte
		var pool []*request
		for first := range queue {
			pool, buf = append(pool[:0], first), buf[:0]
			for more := true; more; {
				select {
				case q, ok := <-queue:
					if more = ok; ok {
						pool = append(pool, q)
					}
				default:
					more = false
				}
			}
			for _, q := range pool {
				tree.Append(q.leaf, nil)
				buf = append(buf, q.data...)
			}
			tree.Root()
			_, err := f.Write(buf)
			if err == nil {
				err = unix.Fdatasync(int(f.Fd()))
			}
			for _, q := range pool {
				q.done <- err
			}
		}
	}()
	s, err := producers(r, r.Producers, 1, func(p int, seq int64) error {
		data := newBytes(int64(p)<<32 + seq)
		q := &request{tlog.RecordHash(data), data, make(chan error, 1)}
		queue <- q
		return <-q.done
	})
	close(queue)
	<-ended
	return s, err
}

// rawLoop appends, signs and syncs one event after the other.
func rawLoop(r run) (Sample, error) {
	f, err := os.Create(filepath.Join(r.Dir, "raw"))
	if err != nil {
		return Sample{}, err
	}
	defer f.Close()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Sample{}, err
	}
	return producers(r, 1, 1, func(_ int, seq int64) error {
		data := newBytes(seq)
		leaf := tlog.RecordHash(data)
		data = append(data, ed25519.Sign(key, leaf[:])...)
		if _, err := f.Write(data); err != nil {
			return err
		}
		return unix.Fdatasync(int(f.Fd()))
	})
}
