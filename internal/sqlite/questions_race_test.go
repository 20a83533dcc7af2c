//go:build race

package sqlite

// questions is how many filters are tried on an index. The race detector makes
// each of them several times as long.
const questions = 150
