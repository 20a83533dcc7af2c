package finding_test

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/graven-audit/graven/internal/finding"
)

func TestRunsAreThoseOfASetInWhateverOrderItCame(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var n finding.Numbers
		first := map[int64]int64{}
		span := 1 + rng.Int64N(400)
		for index := range rng.Int64N(600) {
			number := 1 + rng.Int64N(span)
			if rng.IntN(3) > 0 { // mostly in order
				number = index%span + 1
			}
			n.Add(number, index)
			if _, ok := first[number]; !ok {
				first[number] = index
			}
			if rng.IntN(50) == 0 {
				n.Runs()
			}
		}
		var want []finding.Run
		for _, number := range slices.Sorted(maps.Keys(first)) {
			if last := len(want) - 1; last >= 0 && want[last].High+1 == number {
				want[last].High, want[last].HighIndex = number, first[number]
				continue
			}
			want = append(want, finding.Run{Low: number, High: number, LowIndex: first[number], HighIndex: first[number]})
		}
		if got := n.Runs(); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %v, want %v", seed, got, want)
		}
	}
}
