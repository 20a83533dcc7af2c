//go:build slow

package verify_test

import "testing"

func TestEveryBitOfALargerLogIsFoundInItsPlace(t *testing.T) {
	flipLog(t, newLedger(t, 1, 1, 4, 12, 0, 3, 10, 10))
}
