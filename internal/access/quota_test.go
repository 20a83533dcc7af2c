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
		go func() {
			_, err := q.Wait(ctx, "a", 1)
			waits <- err
		}()
		synctest.Wait()
		other, err := q.Wait(t.Context(), "b", 10)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := <-waits; !errors.Is(err, context.Canceled) {
			t.Errorf("beside a full share: %v", err)
		}
		alone := make(chan error)
		go func() {
			h, err := q.Wait(t.Context(), "c", 1000)
			if err == nil {
				h.Release()
			}
			alone <- err
		}()
		synctest.Wait()
		large.Shrink(10) // its share is full still
		if _, ok := q.Take("a", 1); ok {
			t.Error("a share was given twice")
		}
		large.Release()
		other.Release()
		if err := <-alone; err != nil {
			t.Error(err)
		}
		if h, ok := q.Take("a", 10); !ok {
			t.Error("not all was given back")
		} else {
			h.Release()
		}
		if _, err := q.Wait(t.Context(), "c", 40); err != nil {
			t.Error(err)
		}
	})
}
