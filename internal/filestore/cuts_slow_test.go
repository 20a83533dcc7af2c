//go:build slow

package filestore_test

// powerCuts is how many times the power is cut.
const powerCuts = 100_000
