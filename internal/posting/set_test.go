package posting_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/graven-audit/graven/internal/posting"
)

// places returns n random places, rising.
func places(n int) []uint16 {
	all := rand.Perm(posting.BlockSize)[:n]
	slices.Sort(all)
	list := make([]uint16, n)
	for i, p := range all {
		list[i] = uint16(p)
	}
	return list
}

func TestASetIsReadAsItWasWritten(t *testing.T) {
	for _, n := range []int{0, 1, 2, 1022, 1023, 1024, 1025, posting.BlockSize - 1, posting.BlockSize} {
		want := places(n)
		data := posting.AppendPlaces([]byte("before"), want)
		data, ok := bytes.CutPrefix(data, []byte("before"))
		if !ok || len(data) > posting.BlockSize/8 || len(data) > 2*n {
			t.Errorf("%d places take %d bytes", n, len(data))
		}
		s, err := posting.Parse(data)
		if err != nil || s.Len() != n {
			t.Fatalf("%d places: %d, %v", n, s.Len(), err)
		}
		var up, down []uint16
		for p := range s.All() {
			up = append(up, uint16(p))
		}
		for p := range s.Backward() {
			down = append(down, uint16(p))
		}
		slices.Reverse(down)
		if !slices.Equal(up, want) || !slices.Equal(down, want) {
			t.Errorf("%d places differ", n)
		}
	}
}

func TestSetsCombineAsSetsDo(t *testing.T) {
	for range 100 {
		a, _ := posting.Parse(posting.AppendPlaces(nil, places(rand.IntN(4096))))
		b, _ := posting.Parse(posting.AppendPlaces(nil, places(rand.IntN(4096))))
		first, end := rand.IntN(4097), rand.IntN(4097)
		and, or, without := a, a, a
		and.And(&b)
		or.Or(&b)
		without.Remove(&b)
		var within posting.Set
		within.AddRange(first, end)
		for p := range posting.BlockSize {
			x, y := a.Has(p), b.Has(p)
			if and.Has(p) != (x && y) || or.Has(p) != (x || y) || without.Has(p) != (x && !y) || within.Has(p) != (p >= first && p < end) {
				t.Fatalf("place %d", p)
			}
		}
	}
}

func TestWalkingASetMayEndEarly(t *testing.T) {
	s, _ := posting.Parse(posting.AppendPlaces(nil, []uint16{3, 70, 4000}))
	for p := range s.All() {
		if p != 3 {
			t.Errorf("first %d", p)
		}
		break
	}
	for p := range s.Backward() {
		if p != 4000 {
			t.Errorf("last %d", p)
		}
		break
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0})
	f.Add(make([]byte, 512))
	f.Add([]byte{0, 16})
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := posting.Parse(data)
		if err != nil {
			return
		}
		var places []uint16
		for p := range s.All() {
			places = append(places, uint16(p))
		}
		if len(places) != s.Len() || !slices.IsSorted(places) {
			t.Fatalf("%d places, %v", s.Len(), places)
		}
		if again, err := posting.Parse(posting.AppendPlaces(nil, places)); err != nil || again != s {
			t.Errorf("they come back as others: %v", err)
		}
	})
}
