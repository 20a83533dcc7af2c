package rest

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/finding"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/report"
)

// erased is for what was erased with the entries of an index.
func erased(status int, detail string) *problem.Problem {
	return problem.New(status, "erased", "It was erased", detail)
}

// problemOf is the one table that maps errors to answers. flat says that field
// names are to be those of Kubernaut's form.
func problemOf(err error, flat bool) *problem.Problem {
	var (
		p       *problem.Problem
		param   *search.ParamError
		invalid event.Invalid
		field   *event.FieldError
		syntax  *jcs.Error
		large   *http.MaxBytesError
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, event.ErrReserved):
		p = problem.New(http.StatusForbidden, "reserved", "Only the ledger itself may record this", err.Error())
		if errors.As(err, &field) {
			p.Errors = faults(event.Invalid{field}, flat)
		}
		return p
	case errors.Is(err, intake.ErrTooMany):
		return tooMany()
	case errors.Is(err, intake.ErrMedia):
		return problem.Param("Content-Type", err.Error())
	case errors.As(err, &param):
		return problem.Param(param.Param, param.Reason)
	case errors.As(err, &invalid):
	case errors.As(err, &field):
		invalid = event.Invalid{field}
	case errors.As(err, &syntax):
		invalid = event.Invalid{{Field: cmp.Or(syntax.Path, "body"), Reason: syntax.Reason}}
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, ledger.ErrConflict):
		return problem.New(http.StatusConflict, "conflict", "The id was recorded before with other content", err.Error())
	case errors.Is(err, ledger.ErrBusy):
		return problem.New(http.StatusServiceUnavailable, "busy", "The ledger is busy", err.Error())
	case errors.Is(err, ledger.ErrAway):
		return because(err, problem.New(http.StatusServiceUnavailable, "away", "The ledger's store is away", "whether something was recorded is not known; trying again with the same ids tells"))
	case errors.Is(err, ledger.ErrFull):
		return because(err, problem.New(http.StatusServiceUnavailable, "disk-full", "The ledger's disk is full", "nothing was recorded; it goes on once there is room"))
	case errors.Is(err, ledger.ErrStopped):
		return because(err, problem.New(http.StatusServiceUnavailable, "stopped", "The ledger has stopped", "it takes nothing more until the server is started anew, whose log says why"))
	case errors.Is(err, ledger.ErrReadOnly):
		return problem.New(http.StatusForbidden, "read-only", "Nothing is recorded here", err.Error())
	case errors.Is(err, search.ErrNotReady):
		return because(err, problem.New(http.StatusServiceUnavailable, "not-ready", "The index has not caught up", "try again"))
	case errors.Is(err, search.ErrChanged):
		return because(err, problem.New(http.StatusInternalServerError, "changed", "The ledger was tampered with", err.Error()))
	case errors.Is(err, search.ErrHashes):
		return because(err, problem.New(http.StatusInternalServerError, "hashes", "Derived data is damaged", search.ErrHashes.Error()))
	case errors.Is(err, search.ErrTooBroad):
		return problem.New(http.StatusBadRequest, "too-broad", "The question is too broad", err.Error())
	case errors.Is(err, report.ErrTooMuch):
		return problem.New(http.StatusUnprocessableEntity, "too-many", "Too much happened in the window", err.Error())
	case errors.Is(err, access.ErrExists):
		return problem.New(http.StatusConflict, "exists", "It exists already", err.Error())
	case errors.Is(err, custody.ErrSeveral), errors.Is(err, custody.ErrTooMany):
		return problem.New(http.StatusConflict, "holds", "The legal holds that stand do not allow this", err.Error())
	case errors.Is(err, finding.ErrState):
		return problem.New(http.StatusConflict, "finding", "The finding does not stand so that this could be done", err.Error())
	case errors.Is(err, erasure.ErrHeld), errors.Is(err, erasure.ErrOvertaken):
		return problem.New(http.StatusConflict, "held", "A legal hold keeps what was to be erased", err.Error())
	case errors.Is(err, erasure.ErrSamePerson):
		return problem.New(http.StatusForbidden, "same-person", "Two must want this", err.Error())
	case errors.Is(err, access.ErrNoToken), errors.Is(err, custody.ErrNoHold), errors.Is(err, custody.ErrNothing),
		errors.Is(err, finding.ErrNoFinding), errors.Is(err, erasure.ErrNothing), errors.Is(err, erasure.ErrNoRequest):
		return problem.NotFound(err.Error())
	default:
		return because(err, problem.New(http.StatusInternalServerError, "internal", "Something went wrong here", "the server's log says more"))
	}
	p = problem.New(http.StatusBadRequest, "invalid-body", "The body is not valid", "")
	p.Errors = faults(invalid, flat)
	for i, f := range p.Errors {
		if i > 0 {
			p.Detail += "; "
		}
		p.Detail += f.Field + ": " + f.Reason
	}
	return p
}

// because keeps an error for the log: it may name files of this machine.
func because(err error, p *problem.Problem) *problem.Problem {
	p.Cause = err
	return p
}

func tooLarge(limit int64) *problem.Problem {
	p := problem.New(http.StatusRequestEntityTooLarge, "too-large", "The body is too large", "")
	p.Errors = []problem.Fault{{Field: "body", Reason: "the limit is " + itoa(limit) + " bytes"}}
	p.Detail = "body: " + p.Errors[0].Reason
	return p
}

func faults(invalid event.Invalid, flat bool) []problem.Fault {
	list := make([]problem.Fault, len(invalid))
	for i, f := range invalid {
		list[i] = problem.Fault{Field: f.Field, Reason: f.Reason}
		if flat {
			list[i].Field = intake.FlatField(f.Field)
		}
	}
	return list
}
