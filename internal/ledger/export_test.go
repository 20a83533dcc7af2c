package ledger

import (
	"runtime"

	"golang.org/x/mod/sumdb/note"
)

// AwaitQueue returns when n requests await their turn.
func (l *Ledger) AwaitQueue(n int) {
	for len(l.queue) < n {
		runtime.Gosched()
	}
}

// Keys returns the ledger's key, and its public half in its text form.
func (l *Ledger) Keys() (note.Signer, string) { return l.c.Signer, l.c.VerifierKey }

// Remembered returns how many ids are remembered. Nothing may be appended
// meanwhile.
func (l *Ledger) Remembered() int { return len(l.recent.ids) }
