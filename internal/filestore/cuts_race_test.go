//go:build !slow && race

package filestore_test

// powerCuts is how many times the power is cut. The race detector makes each
// of them ten times as long.
const powerCuts = 200
