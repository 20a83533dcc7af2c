package inorder_test

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/graven-audit/graven/internal/inorder"
)

func TestJobsComeOutInTheOrderInWhichTheyWentIn(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{0, 1, 7} {
		var got, want []int
		err := inorder.Run(t.Context(), workers, func(_ context.Context, emit func(*int) error) error {
			for i := range 1000 {
				want = append(want, 2*i)
				if err := emit(&i); err != nil {
					return err
				}
			}
			return nil
		}, func(i *int) {
			for range *i % 5 {
				runtime.Gosched()
			}
			*i *= 2
		}, func(i *int) error {
			got = append(got, *i)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%d workers: %v, %d jobs", workers, err, len(got))
		}
	}
}

func TestTheFirstErrorEndsAllStages(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	endless := func(_ context.Context, emit func(int) error) error {
		for i := 0; ; i++ {
			if err := emit(i); err != nil {
				return err
			}
		}
	}
	if err := inorder.Run(t.Context(), 3, endless, func(int) {}, func(i int) error {
		if i == 100 {
			return bad
		}
		return nil
	}); !errors.Is(err, bad) {
		t.Errorf("collect's: %v", err)
	}
	if err := inorder.Run(t.Context(), 3, func(context.Context, func(int) error) error { return bad }, func(int) {}, func(int) error { return nil }); !errors.Is(err, bad) {
		t.Errorf("produce's: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := inorder.Run(ctx, 3, endless, func(i int) {
		if i == 100 {
			cancel()
		}
	}, func(int) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("the context's: %v", err)
	}
}
