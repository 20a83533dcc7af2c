// Package upload reads the bodies of requests within bounds of size, time and
// memory.
package upload

import (
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/graven-audit/graven/internal/access"
)

var (
	// ErrBusy means that there is no memory for another body.
	ErrBusy = errors.New("too many bodies at a time")
	// ErrEncoding means that a body is compressed in a way that is not known.
	ErrEncoding = errors.New("Content-Encoding: gzip, zstd or none")
)

// Window bounds what a zstd body may refer back to, as RFC 8878 asks of
// decoders, and is the memory that each takes.
const Window = 8 << 20

// firstRead is the memory that is taken for any body, however small.
const firstRead = 8 << 10

// MinRate is what must arrive per second, on the average, after the time that
// every body has.
const MinRate = 64 << 10

// Limits of bodies.
type Limits struct {
	// Size bounds a body, after decompression, in bytes.
	Size int64
	// Time is what any body may take; longer ones have a second more for each
	// [MinRate] bytes that have arrived.
	Time time.Duration
	// Memory is what bodies take, in bytes.
	Memory *access.Quota
}

// Read reads a request's body, without its encoding. Its memory counts against
// the principal until it is released. An error is that of the sender, ErrBusy,
// a *[http.MaxBytesError], or os.ErrDeadlineExceeded.
func (l *Limits) Read(w http.ResponseWriter, r *http.Request, principal string) (data []byte, held *access.Held, err error) {
	if r.ContentLength > l.Size {
		return nil, nil, &http.MaxBytesError{Limit: l.Size}
	}
	// Memory is taken as the body arrives, so that slow senders of large
	// bodies do not shut out others.
	held, _ = l.Memory.Take(principal, 0)
	if data, err = l.read(w, r, held); err != nil {
		held.Release()
		return nil, nil, err
	}
	return data, held, nil
}

func (l *Limits) read(w http.ResponseWriter, r *http.Request, held *access.Held) ([]byte, error) {
	p := &paced{in: http.MaxBytesReader(w, r.Body, l.Size), rc: http.NewResponseController(w), until: time.Now().Add(l.Time)}
	in, done, err := decoded(p, r.Header.Get("Content-Encoding"), held)
	if err != nil {
		return nil, err
	}
	defer done()
	var buf []byte
	for {
		if len(buf) == cap(buf) {
			more := min(max(int64(cap(buf)), firstRead), l.Size+1-int64(cap(buf)))
			if !held.Grow(more) {
				return nil, ErrBusy
			}
			buf = append(make([]byte, 0, int64(cap(buf))+more), buf...)
		}
		n, err := in.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case int64(len(buf)) > l.Size:
			return nil, &http.MaxBytesError{Limit: l.Size}
		case errors.Is(err, io.EOF):
			// From here on the connection is only watched, for as long as the answer takes.
			_ = p.rc.SetReadDeadline(time.Time{})
			return buf, nil
		case err != nil:
			return nil, err
		}
	}
}

// A paced reader gives its sender time as it sends.
type paced struct {
	in      io.Reader
	rc      *http.ResponseController
	until   time.Time // for a body of no length
	n, next int64     // bytes that arrived; those at which there is more time
}

func (p *paced) Read(b []byte) (int, error) {
	if p.n >= p.next {
		_ = p.rc.SetReadDeadline(p.until.Add(time.Duration(p.n/MinRate) * time.Second))
		p.next = p.n + MinRate
	}
	n, err := p.in.Read(b)
	p.n += int64(n)
	return n, err
}

// decoded returns a body without its encoding. done must be called in the end.
func decoded(in io.Reader, encoding string, held *access.Held) (out io.Reader, done func(), err error) {
	switch strings.ToLower(encoding) {
	case "", "identity":
		return in, func() {}, nil
	case "gzip":
		z, err := gzip.NewReader(in)
		return z, func() {}, err
	case "zstd":
		if !held.Grow(Window) {
			return nil, nil, ErrBusy
		}
		z, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(Window))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return nil, nil, ErrEncoding
}
