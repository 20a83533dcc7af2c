// Package recorder records what controllers do with the resources of
// platform.chatcli.io, in two lines: one where the program starts, and one where
// something happens.
//
//	audit, err := recorder.New(recorder.Config{Sender: spool, Dir: dir})
//	err = audit.RecordRemediationExecuted(ctx, plan, plan.Spec.Actions[0].Type)
//
// Each method makes one event of an object, with what there is to say of it, and
// hands it to a Sender, which is a [client.Recorder]: it returns once the event is
// on the local disk, whether or not the ledger can be reached.
//
// # Once, however often it is told
//
// A reconciler runs again after a crash, a conflict or a restart, and tells the
// same again. What it tells is named by its fact: the object's uid, what happened
// to it, and which time. The event's time is the object's, and never the clock's,
// and its id follows from all of it, so that the ledger has it once. Where the
// object has changed between the two tellings there are two events of one fact,
// which lists show and reports count once.
//
// Of what is no object's, as an opened circuit breaker, the same words are one
// telling within ten minutes of the first; the recorder keeps them on disk for so
// long.
//
// # Incidents
//
// The correlation id is the incident's: the Issue that a plan, an insight, an
// approval or a post mortem belongs to, or the id that this Issue names, where the
// recorder may read it (Config.Issues).
//
// [AuditRecorder] has the methods that ChatCLI documents, without contexts.
//
// [client.Recorder]: https://pkg.go.dev/github.com/graven-audit/graven/client#Recorder
package recorder
