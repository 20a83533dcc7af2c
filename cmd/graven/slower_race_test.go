//go:build race

package main

// slower is how many times the memory and the time of a program the race
// detector takes.
const slower = 6
