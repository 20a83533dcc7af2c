package trail

// Names in the data directory of the embedded store.
const (
	// LogDir holds the segment files NNNNNNNNNNNNNNNNNNNN.seg, named for the
	// index of their first record. Their frames are records and, behind each
	// pool of records, the signed checkpoint that covers them.
	LogDir = "log"
	// TipFile holds the newest checkpoint that callers were told of, padded
	// with zeros to TipSize bytes.
	TipFile = "tip"
	TipSize = 1024
	// VKeyFile holds the ledger's public key, in the text form of C2SP
	// signed-note. The key's name is the ledger's origin.
	VKeyFile = "keys/ledger.vkey"
	// LockFile is locked by the one process that may write.
	LockFile = "lock"
)
