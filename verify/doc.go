// Package verify checks a ledger without trusting its keeper.
package verify
