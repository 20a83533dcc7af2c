package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/custody"
	"github.com/graven-audit/graven/internal/erasure"
	"github.com/graven-audit/graven/internal/intake"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
)

// A problem is an error as clients see it (RFC 9457).
type problem struct {
	Type   string `json:"type"` // urn:graven:problem:…
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	// Param names the parameter or header that is at fault.
	Param string `json:"param,omitempty"`
	// Errors name the members of the body that are at fault.
	Errors []fault `json:"errors,omitempty"`

	retry bool  // worth trying again soon
	cause error // for the log, where callers are not told
}

// A fault is what is wrong with one member of a body.
type fault struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
}

func (p *problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Title + ": " + p.Detail
}

func newProblem(status int, kind, title, detail string) *problem {
	return &problem{Type: "urn:graven:problem:" + kind, Title: title, Status: status, Detail: detail,
		retry: status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests}
}

func badParam(param, reason string) *problem {
	p := newProblem(http.StatusBadRequest, "invalid-parameter", "A parameter is not valid", param+": "+reason)
	p.Param = param
	return p
}

func notFound(detail string) *problem {
	return newProblem(http.StatusNotFound, "not-found", "There is no such thing", detail)
}

// erased is for what was erased with the entries of an index.
func erased(status int, detail string) *problem {
	return newProblem(status, "erased", "It was erased", detail)
}

// problemOf is the one table that maps errors to answers. flat says that field
// names are to be those of Kubernaut's form.
func problemOf(err error, flat bool) *problem {
	var (
		p       *problem
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
		p = newProblem(http.StatusForbidden, "reserved", "Only the ledger itself may record this", err.Error())
		if errors.As(err, &field) {
			p.Errors = faults(event.Invalid{field}, flat)
		}
		return p
	case errors.Is(err, intake.ErrTooMany):
		return tooMany()
	case errors.Is(err, intake.ErrMedia):
		return badParam("Content-Type", err.Error())
	case errors.As(err, &param):
		return badParam(param.Param, param.Reason)
	case errors.As(err, &invalid):
	case errors.As(err, &field):
		invalid = event.Invalid{field}
	case errors.As(err, &syntax):
		invalid = event.Invalid{{Field: cmp.Or(syntax.Path, "body"), Reason: syntax.Reason}}
	case errors.As(err, &large):
		return tooLarge(large.Limit)
	case errors.Is(err, ledger.ErrConflict):
		return newProblem(http.StatusConflict, "conflict", "The id was recorded before with other content", err.Error())
	case errors.Is(err, ledger.ErrBusy):
		return newProblem(http.StatusServiceUnavailable, "busy", "The ledger is busy", err.Error())
	case errors.Is(err, ledger.ErrAway):
		return because(err, newProblem(http.StatusServiceUnavailable, "away", "The ledger's store is away", "whether something was recorded is not known; trying again with the same ids tells"))
	case errors.Is(err, ledger.ErrFull):
		return because(err, newProblem(http.StatusServiceUnavailable, "disk-full", "The ledger's disk is full", "nothing was recorded; it goes on once there is room"))
	case errors.Is(err, ledger.ErrStopped):
		return because(err, newProblem(http.StatusServiceUnavailable, "stopped", "The ledger has stopped", "it takes nothing more until the server is started anew, whose log says why"))
	case errors.Is(err, ledger.ErrReadOnly):
		return newProblem(http.StatusForbidden, "read-only", "Nothing is recorded here", err.Error())
	case errors.Is(err, search.ErrNotReady):
		return because(err, newProblem(http.StatusServiceUnavailable, "not-ready", "The index has not caught up", "try again"))
	case errors.Is(err, search.ErrChanged):
		return because(err, newProblem(http.StatusInternalServerError, "changed", "The ledger was tampered with", err.Error()))
	case errors.Is(err, search.ErrHashes):
		return because(err, newProblem(http.StatusInternalServerError, "hashes", "Derived data is damaged", search.ErrHashes.Error()))
	case errors.Is(err, search.ErrTooBroad):
		return newProblem(http.StatusBadRequest, "too-broad", "The question is too broad", err.Error())
	case errors.Is(err, access.ErrExists):
		return newProblem(http.StatusConflict, "exists", "It exists already", err.Error())
	case errors.Is(err, custody.ErrSeveral), errors.Is(err, custody.ErrTooMany):
		return newProblem(http.StatusConflict, "holds", "The legal holds that stand do not allow this", err.Error())
	case errors.Is(err, erasure.ErrHeld), errors.Is(err, erasure.ErrOvertaken):
		return newProblem(http.StatusConflict, "held", "A legal hold keeps what was to be erased", err.Error())
	case errors.Is(err, erasure.ErrSamePerson):
		return newProblem(http.StatusForbidden, "same-person", "Two must want this", err.Error())
	case errors.Is(err, access.ErrNoToken), errors.Is(err, custody.ErrNoHold), errors.Is(err, custody.ErrNothing),
		errors.Is(err, erasure.ErrNothing), errors.Is(err, erasure.ErrNoRequest):
		return notFound(err.Error())
	default:
		return because(err, newProblem(http.StatusInternalServerError, "internal", "Something went wrong here", "the server's log says more"))
	}
	p = newProblem(http.StatusBadRequest, "invalid-body", "The body is not valid", "")
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
func because(err error, p *problem) *problem {
	p.cause = err
	return p
}

func tooLarge(limit int64) *problem {
	p := newProblem(http.StatusRequestEntityTooLarge, "too-large", "The body is too large", "")
	p.Errors = []fault{{"body", "the limit is " + itoa(limit) + " bytes"}}
	p.Detail = "body: " + p.Errors[0].Reason
	return p
}

func faults(invalid event.Invalid, flat bool) []fault {
	list := make([]fault, len(invalid))
	for i, f := range invalid {
		list[i] = fault{f.Field, f.Reason}
		if flat {
			list[i].Field = intake.FlatField(f.Field)
		}
	}
	return list
}

func writeProblem(w http.ResponseWriter, p *problem) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Del("Content-Disposition")
	w.Header().Del("Content-Encoding")
	w.Header().Set("Cache-Control", "no-store")
	if p.retry && w.Header().Get("Retry-After") == "" {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	json.NewEncoder(w).Encode(p)
}
