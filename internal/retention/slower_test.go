//go:build !race

package retention_test

// interleavings is how many the model plays.
const interleavings = 100_000
