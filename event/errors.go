package event

import (
	"errors"
	"strings"

	"github.com/graven-audit/graven/internal/jcs"
)

// A FieldError says which member of an event is wrong, and why.
type FieldError struct {
	Field  string // as in "actor.name"; "body" for the document as a whole
	Reason string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Reason }

// Invalid is every fault that was found in one event.
type Invalid []*FieldError

func (v Invalid) Error() string {
	var b strings.Builder
	for i, e := range v {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(e.Error())
	}
	return b.String()
}

// ErrReserved marks what only the ledger itself may record: a reserved type,
// or the member "ledger". Errors wrap it.
var ErrReserved = errors.New("reserved for the ledger itself")

// reserved is a FieldError that is also [ErrReserved].
type reserved struct{ FieldError }

func (e *reserved) Unwrap() []error { return []error{&e.FieldError, ErrReserved} }

// fieldError turns a scanner's error into a FieldError.
func fieldError(err error) error {
	var j *jcs.Error
	if !errors.As(err, &j) {
		return err
	}
	if j.Path == "" {
		return &FieldError{Field: "body", Reason: j.Reason}
	}
	return &FieldError{Field: j.Path, Reason: j.Reason}
}
