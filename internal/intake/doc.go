// Package intake turns foreign forms of audit records into events, and shows
// events in Kubernaut's form.
//
// The forms are Kubernaut's flat one ([Kubernaut], [AppendKubernaut]), the
// AuditEvent objects of ChatCLI ([AuditEvent]) and the audit log of the
// Kubernetes API server ([KubeAudit], [KubeAuditList]). [Native] takes what
// the HTTP API takes: the native form or the flat one.
//
// Nothing is completed or validated here: callers go on with
// [event.Event.Complete] and [event.Event.Validate]. Errors are
// [event.FieldError] or [event.Invalid] and speak the language of the form
// that was sent; [FlatField] translates what Validate finds later.
//
// Three rules hold for every form:
//
//   - What has no place of its own in an event stands in Original under its own
//     name, or in the details. A member that is not known is an error, or kept.
//   - An id that a record does not bear is derived from the record and never
//     from the clock, so that what is told twice is a duplicate and not a
//     second event. Native and flat events without an id are left without.
//   - Of the API server's log, credentials leave this package as names only;
//     redact.go says what counts as one.
package intake

import (
	"errors"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// fieldError gives a scanner's error the form that callers of this package know.
func fieldError(err error) error {
	var j *jcs.Error
	if !errors.As(err, &j) {
		return err
	}
	if j.Path == "" {
		return &event.FieldError{Field: "body", Reason: j.Reason}
	}
	return &event.FieldError{Field: j.Path, Reason: j.Reason}
}

// refuse is an error at the member that is being read.
func refuse(reason string) error { return &jcs.Error{Reason: reason} }
