// Package event says what happened: who did what to which resource, when, and
// with what outcome.
//
// An [Event] has three written forms.
//
//   - The native JSON form is what people and programs send and read
//     ([Parse], [Event.AppendJSON]). It is the form of the AuditEvent that
//     ChatCLI documents, extended.
//   - The entry ([Event.AppendEntry]) is the canonical form (RFC 8785) that a
//     ledger hashes and keeps for ever. It holds everything but the content
//     that may have to be erased one day; of that it holds salted digests.
//   - The erasable content ([Event.AppendErasable]) holds the details, the
//     error's message and the caller's own spellings. It is kept beside the
//     entry, together with the salt, and both can go without breaking a proof.
//
// [Parse] reads strictly: a duplicate or unknown member, a string that is not
// UTF-8 or a number that would lose digits is an error that names the field.
// [Event.Complete] then replaces aliases by the catalogue's terms and fills in
// defaults, and [Event.Validate] holds the result against the limits.
//
// The catalogue of event types ([Types], [Lookup]) is one embedded data file,
// from which the documentation and the JSON Schema are generated too.
package event
