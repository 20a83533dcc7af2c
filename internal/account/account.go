// Package account gives an account of an incident to who asks for one: its story, and its
// resources as they were. It reads what they are made of, and writes them in the forms
// of the API.
package account

import (
	"net/http"
	"strconv"
	"time"

	"github.com/graven-audit/graven/internal/problem"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/internal/verdict"
)

// Bounds of an incident whose events are told as one story: their number, and
// the bytes of their records.
const (
	MaxEvents = 10_000
	MaxBytes  = 16 << 20
)

// ErrTooMany is the problem of an incident that is beyond the bounds.
var ErrTooMany = problem.New(http.StatusUnprocessableEntity, "too-many", "The incident has too many events",
	"more than "+str(MaxEvents)+", or more than "+str(MaxBytes>>20)+" MiB; list or export them with correlation_id")

// A Teller reads what accounts are made of. All fields are required.
type Teller struct {
	Find  *search.Finder
	Judge *verdict.Judge
	Now   func() time.Time
}

// Params calls fn with each parameter of a request, by its name: fn reports whether it
// knows it.
type Params func(fn func(name, value string) (known bool, err error)) error

func str(n int64) string { return strconv.FormatInt(n, 10) }
