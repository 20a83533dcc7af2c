//go:build !slow

package main

// eventsEach is how many events each producer records while everything else is
// killed.
const eventsEach = 200
