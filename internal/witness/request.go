package witness

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"
)

const (
	// path of the call, below a witness's prefix.
	path = "/add-checkpoint"
	// maxProof bounds a proof's lines, as the protocol does.
	maxProof = 63
	// maxBody bounds requests and answers in bytes: a full proof, and a
	// checkpoint with the signatures of some hundred others.
	maxBody = 64 << 10
	// sizeType is the type of an answer that tells the size a witness holds.
	sizeType = "text/x.tlog.size"
)

// A request asks a witness to cosign a checkpoint, a signed note, which the
// proof shows to extend the ledger of old entries.
type request struct {
	old   int64
	proof tlog.TreeProof
	note  []byte
}

func (r *request) marshal() []byte {
	b := fmt.Appendf(nil, "old %d\n", r.old)
	for _, h := range r.proof {
		b = append(append(b, h.String()...), '\n')
	}
	return append(append(b, '\n'), r.note...)
}

// parseRequest reads what marshal writes. The note is not looked at.
func parseRequest(body []byte) (*request, error) {
	line, rest, ok := bytes.Cut(body, []byte("\n"))
	digits, is := bytes.CutPrefix(line, []byte("old "))
	if !ok || !is {
		return nil, errors.New(`the first line is not "old" and a size`)
	}
	r := &request{}
	var err error
	if r.old, err = parseSize(string(digits)); err != nil {
		return nil, fmt.Errorf("old size: %w", err)
	}
	for {
		if line, rest, ok = bytes.Cut(rest, []byte("\n")); !ok {
			return nil, errors.New("no empty line ends the proof")
		}
		if len(line) == 0 {
			break
		}
		if len(r.proof) == maxProof {
			return nil, fmt.Errorf("the proof has more than %d lines", maxProof)
		}
		h, err := tlog.ParseHash(string(line))
		if err != nil || h.String() != string(line) {
			return nil, fmt.Errorf("line %d of the proof is not a hash in base64", len(r.proof)+1)
		}
		r.proof = append(r.proof, h)
	}
	r.note = rest
	return r, nil
}

// parseSize reads a size in decimal, without anything before it.
func parseSize(text string) (int64, error) {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != text {
		return 0, fmt.Errorf("%.30q is not a size in decimal", text)
	}
	return n, nil
}
