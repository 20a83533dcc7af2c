//go:build slow

package main

import "time"

// siegePercent is how large the attacks on a server are, siegeRounds how often an
// honest client must be answered meanwhile, and siegeTime how long they last.
const siegePercent, siegeRounds, siegeTime = 300, 3000, 60 * time.Second
