//go:build !slow && race

package main

import "time"

// siegePercent is how large the attacks on a server are, siegeRounds how often an
// honest client must be answered meanwhile, and siegeTime how long they last.
const siegePercent, siegeRounds, siegeTime = 10, 20, 15 * time.Second
