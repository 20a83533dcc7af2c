//go:build !race

package sqlite

// questions is how many filters are tried on an index.
const questions = 400
