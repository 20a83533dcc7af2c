// Package answer writes HTTP answers, remembers their status, and gives up on
// readers who do not read.
package answer

import (
	"net/http"
	"time"
)

// A Writer implements http.ResponseWriter.
type Writer struct {
	http.ResponseWriter
	rc      *http.ResponseController
	timeout time.Duration
	// Status is the one that was sent; 0 for none yet.
	Status int
}

// New returns a writer that gives a reader so long for each 64 KiB. All that is
// written at once must be read as fast as that, or at 64 KiB a second.
func New(w http.ResponseWriter, timeout time.Duration) *Writer {
	return &Writer{ResponseWriter: w, rc: http.NewResponseController(w), timeout: timeout}
}

const (
	// piece is how much of an answer is written at a time.
	piece = 64 << 10
	// minRate is what must be read per second, on the average, of what is
	// written at once.
	minRate = 64 << 10
)

// WriteHeader implements http.ResponseWriter.
func (w *Writer) WriteHeader(status int) {
	if w.Status == 0 {
		w.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *Writer) Write(b []byte) (n int, err error) {
	if w.Status == 0 {
		w.Status = http.StatusOK
	}
	until := time.Now().Add(w.timeout)
	for err == nil && n < len(b) {
		var m int
		deadline, slow := time.Now().Add(w.timeout), until.Add(time.Duration(n/minRate)*time.Second)
		if slow.Before(deadline) {
			deadline = slow
		}
		_ = w.rc.SetWriteDeadline(deadline)
		m, err = w.ResponseWriter.Write(b[n:min(len(b), n+piece)])
		n += m
	}
	// Over HTTP/2 a deadline would end the answer even while nothing is written.
	_ = w.rc.SetWriteDeadline(time.Time{})
	return n, err
}

// FlushError implements what http.ResponseController looks for.
func (w *Writer) FlushError() error {
	_ = w.rc.SetWriteDeadline(time.Now().Add(w.timeout))
	err := w.rc.Flush()
	_ = w.rc.SetWriteDeadline(time.Time{})
	return err
}

// Unwrap lets http.ResponseController find the writer below.
func (w *Writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
