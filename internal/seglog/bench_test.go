package seglog_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/seglog"
)

// BenchmarkReadFrame reads single frames of eight segments, as many callers do.
func BenchmarkReadFrame(b *testing.B) {
	l, _ := begin(b, seglog.Options{SegmentSize: 64 << 10})
	type place struct {
		base   uint64
		offset int64
	}
	var places []place
	base := uint64(0)
	for n := uint64(0); len(l.Segments()) <= 8; n++ {
		if l.Full() {
			base = n
			if err := l.Roll(base); err != nil {
				b.Fatal(err)
			}
		}
		places = append(places, place{base, appendTo(b, l, strings.Repeat("x", 1000))})
	}
	b.RunParallel(func(pb *testing.PB) {
		rng := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for pb.Next() {
			p := places[rng.IntN(len(places))]
			if _, err := l.ReadFrame(p.base, p.offset); err != nil {
				b.Error(err)
			}
		}
	})
}
