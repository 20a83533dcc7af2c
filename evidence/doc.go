// Package evidence is the format of evidence packages: what an auditor takes away and
// checks offline.
//
// A package is a zip file. Its [Statement] (in-toto v1) names every other file in it with
// its SHA-256, says what was asked and how much there is, and stands in a DSSE [Envelope]
// under the ledger's Ed25519 key. That shows that nothing in the package was changed. That
// the events in it are of the ledger, their inclusion proofs show under the signed
// checkpoint. That none is missing which matches the question, the [Span] shows: every
// entry of a range of the ledger, whose hashes give the checkpoint's root, so that whoever
// holds the [Filter] against each of them finds the same events.
//
// The same question at the same checkpoint gives the same bytes. Who asked, and when, is
// told in a [Statement] beside the package, of the same form.
package evidence
