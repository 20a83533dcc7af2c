// Package evidence makes evidence packages: what the trail shows of a window, with
// everything that it takes to check it offline. The format is package evidence.
package evidence
