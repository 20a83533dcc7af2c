// Package report makes compliance reports from the events of a trail: how soon problems
// were noticed and resolved, what remediations did, which promises were kept, who
// approved what. The five sections, their keys and units are those that ChatCLI documents.
//
// A report is a function of facts, not of tellings: what ChatCLI itself, a recorder,
// capture and an admission webhook say of one thing (event.Event.Fact) counts once, in
// whatever order it stands in the ledger. A [Tally] takes the events of a window and of
// the time before it, in any order, and [Tally.Report] makes the report. What was only
// asked for at admission counts once it is confirmed.
//
// Each number says how many things it is about, which were left out and why, and which
// events are behind it ([Number]).
package report
