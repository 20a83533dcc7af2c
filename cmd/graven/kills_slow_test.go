//go:build slow

package main

// kills is how often the server is killed.
const kills = 200
