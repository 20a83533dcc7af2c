//go:build slow

package main

// siegePercent is how large the attacks on a server are, and siegeRounds how
// often an honest client must be answered meanwhile.
const siegePercent, siegeRounds = 300, 300
