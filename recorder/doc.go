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
// same again, of an object that may have changed since. What it tells is named by
// its fact: the object's uid, what happened to it, and which time. An event's id
// follows from its fact, and its time is the object's where it has one. What was
// told first is kept on disk (Config.Dir) and told again in the same words, so that
// the ledger has it once.
//
// Of what no object tells which time it is, such as an opened circuit breaker, the
// same words are one telling within ten minutes. Of what is now one way and now the
// other it is told again once it was the other way: of a cluster's connection only
// then, of a role also after ten minutes.
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
