//go:build slow

package filestore_test

// powerCuts is how many times the power is cut.
const powerCuts = 100_000

// flipStride is how many bytes of a sealed ledger's log share one bit that is
// flipped, unless allBits has every bit of each flipped.
const (
	allBits    = true
	flipStride = 1
)

// hostileBatches is how many batches each writer with a hostile clock records.
const hostileBatches = 160

// systemCallFaults bounds how many faults of system calls are tried.
const systemCallFaults = 1 << 20

// erasureFaults bounds those of system calls of an erasure.
const erasureFaults = 1 << 20

// derivedHarms is how often derived files are harmed.
const derivedHarms = 1000

// interruptStride is how many operations lie between two that are made to fail,
// where each would be a test of its own.
const interruptStride = 1

// headerStride is how many bytes of the headers of an index's pages share one
// that is changed.
const headerStride = 1
