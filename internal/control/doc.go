// Package control holds a trail against the controls of frameworks.
//
// Frameworks are data (frameworks/*.yaml): of each control what it asks, what Graven
// shows of it, directly or in support of something else, which checks bear on it, and
// what the organisation must still do. Checks are data as well (checks.yaml): each is a
// condition in CEL over events of some types, or a named procedure where one event does
// not tell.
//
// A [Verdict] is about a check and a period: so many instances, or days, of which so many
// are exceptions. None is not a good result; it is not enough evidence. Nothing here ever
// says that a control is met, or that anybody complies: those are the auditor's words.
package control
