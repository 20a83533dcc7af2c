package access_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/graven-audit/graven/internal/access"
)

func TestAPrincipalGetsAQuarter(t *testing.T) {
	q := access.NewQuota(8)
	var held []*access.Held
	for i, tt := range []struct {
		name string
		ok   bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"b", true}, {"c", true}, {"c", true}, {"d", true}, {"d", true}, {"e", false}} {
		h, ok := q.Take(tt.name, 1)
		if ok != tt.ok {
			t.Fatalf("%d: %s got %v", i, tt.name, ok)
		}
		if ok {
			held = append(held, h)
		}
	}
	held[0].Release()
	if _, ok := q.Take("e", 1); !ok {
		t.Error("what was given back is not there")
	}
	if _, ok := access.NewQuota(1).Take("a", 1); !ok {
		t.Error("of one, nobody gets any")
	}
}

func TestWhatIsHeldGrowsWithinTheShareAndShrinks(t *testing.T) {
	q := access.NewQuota(40)
	h, ok := q.Take("a", 4)
	if !ok || !h.Grow(6) || h.Grow(1) {
		t.Fatal("a share of ten is not ten")
	}
	h.Shrink(3)
	h.Shrink(5)
	if !h.Grow(7) || h.Grow(1) {
		t.Error("what it shrank by is not there")
	}
	h.Release()
	if _, ok := q.Take("a", 10); !ok {
		t.Error("what was released is not there")
	}
}

func TestWhoWaitsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := access.NewQuota(40)
		large, err := q.Wait(t.Context(), "a", 30) // more than a share, which it then has for itself
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		waits := make(chan error)
		wait := func(ctx context.Context, principal string) {
			h, err := q.Wait(ctx, principal, 1)
			if err == nil {
				h.Release()
			}
			waits <- err
		}
		go wait(ctx, "a")
		synctest.Wait()
		var others []*access.Held
		for _, name := range []string{"b", "c", "d"} {
			h, err := q.Wait(t.Context(), name, 10)
			if err != nil {
				t.Fatal(err)
			}
			others = append(others, h)
		}
		go wait(ctx, "e") // nothing is left
		synctest.Wait()
		cancel()
		for range 2 {
			if err := <-waits; !errors.Is(err, context.Canceled) {
				t.Errorf("there was none, and %v", err)
			}
		}
		go wait(t.Context(), "a")
		go wait(t.Context(), "e")
		synctest.Wait()
		large.Shrink(9)
		others[0].Release()
		for range 2 {
			if err := <-waits; err != nil {
				t.Error(err)
			}
		}
		large.Release()
		if h, ok := q.Take("a", 10); !ok {
			t.Error("not all was given back")
		} else {
			h.Release()
		}
	})
}
