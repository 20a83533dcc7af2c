//go:build race

package retention_test

// interleavings is how many the model plays: the race detector takes ten times
// the time.
const interleavings = 10_000
