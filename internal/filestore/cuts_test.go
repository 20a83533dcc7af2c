//go:build !slow && !race

package filestore_test

// powerCuts is how many times the power is cut.
const powerCuts = 10_000
