//go:build !slow && race

package filestore_test

// powerCuts is how many times the power is cut. The race detector makes each
// of them several times as long.
const powerCuts = 1000
