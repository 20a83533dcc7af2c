// Package compliance asks a ledger for what a compliance officer wants to know, and puts
// the answer on paper: it reads the questions about windows, gives reports the events
// that they are made of, and makes sheets of them.
package compliance
