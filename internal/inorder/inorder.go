// Package inorder does jobs side by side and hands them on in the order in
// which they came.
package inorder

import (
	"context"
	"runtime"
	"sync"
)

// Run puts jobs through three stages. produce makes them, one after the other,
// until its context ends; work is done on each by one of several goroutines, 0
// meaning one a processor; collect gets them in the order in which they were
// made, on the caller's goroutine. Few jobs exist at a time. It returns when
// all stages have ended, with the first error of collect, produce or ctx.
func Run[J any](ctx context.Context, workers int, produce func(ctx context.Context, emit func(J) error) error, work func(J), collect func(J) error) error {
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	outer := ctx
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type ticket struct {
		job  J
		done chan struct{}
	}
	todo := make(chan *ticket, workers)
	line := make(chan *ticket, 2*workers)
	var stages sync.WaitGroup
	var produceErr error
	stages.Go(func() {
		defer close(todo)
		defer close(line)
		produceErr = produce(ctx, func(j J) error {
			t := &ticket{j, make(chan struct{})}
			for _, c := range []chan *ticket{line, todo} {
				select {
				case c <- t:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	})
	for range workers {
		stages.Go(func() {
			for t := range todo {
				if ctx.Err() == nil {
					work(t.job)
				}
				close(t.done)
			}
		})
	}
	var err error
	for t := range line {
		if err == nil {
			select {
			case <-t.done:
				err = collect(t.job)
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		if err != nil {
			cancel()
		}
	}
	stages.Wait()
	if outer.Err() != nil {
		return outer.Err()
	}
	if err == nil {
		err = produceErr
	}
	return err
}
