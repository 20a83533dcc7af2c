package trail

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// A Line is one line of an NDJSON export: an event in its native form and,
// beside its members, what it takes to check it offline.
//
//	index         the entry's place
//	entry         the entry, as a JSON string
//	salt          the salt of its digests, in hexadecimal; absent once erased
//	previousHash  the chain before the entry, in hexadecimal
//	hash          the chain after it
//	proof         the inclusion proof under the export's checkpoint, as a list
//	              of base64 hashes; only in filtered exports with a checkpoint
type Line struct {
	Event    *event.Event
	Record   Record
	Previous Hash
	Proof    tlog.RecordProof // nil for none
}

// Append appends the line, with its newline.
func (l *Line) Append(dst []byte) []byte {
	dst = l.Event.AppendJSON(dst)
	dst = dst[:len(dst)-1]
	dst = append(dst, `,"index":`...)
	dst = strconv.AppendInt(dst, l.Record.Index, 10)
	dst = append(dst, `,"entry":`...)
	dst = jcs.AppendString(dst, string(l.Record.Entry))
	if l.Record.Erasable != nil {
		dst = append(dst, `,"salt":"`...)
		dst = hex.AppendEncode(dst, l.Record.Salt[:])
		dst = append(dst, '"')
	}
	dst = append(dst, `,"previousHash":"`...)
	dst = hex.AppendEncode(dst, l.Previous[:])
	dst = append(dst, `","hash":"`...)
	dst = hex.AppendEncode(dst, l.Record.Chain[:])
	dst = append(dst, '"')
	if l.Proof != nil {
		dst = append(dst, `,"proof":[`...)
		for i, h := range l.Proof {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, '"')
			dst = base64.StdEncoding.AppendEncode(dst, h[:])
			dst = append(dst, '"')
		}
		dst = append(dst, ']')
	}
	return append(dst, '}', '\n')
}

// A Trailer is the last line of an export that was made with a checkpoint.
type Trailer struct {
	// Checkpoint is the signed note under which the export was made.
	Checkpoint string `json:"checkpoint"`
	// Filter holds the parameters of the query; empty for a whole export.
	Filter map[string]string `json:"filter"`
	// Count is the number of lines before this one.
	Count int64 `json:"count"`
}

// Whole reports whether the export holds every entry under its checkpoint.
func (t *Trailer) Whole() bool { return len(t.Filter) == 0 }

// ParseLine reads one line of an export: an event's, or the trailer, which is
// the line that has a member "checkpoint".
func ParseLine(text []byte) (*Line, *Trailer, error) {
	var extra struct {
		Checkpoint   *string          `json:"checkpoint"`
		Index        *int64           `json:"index"`
		Entry        *string          `json:"entry"`
		Salt         *string          `json:"salt"`
		PreviousHash *string          `json:"previousHash"`
		Hash         *string          `json:"hash"`
		Proof        tlog.RecordProof `json:"proof"`
	}
	if _, err := jcs.Transform(text, 100); err != nil {
		return nil, nil, err // encoding/json would let repeated members pass
	}
	if err := json.Unmarshal(text, &extra); err != nil {
		return nil, nil, err
	}
	if extra.Checkpoint != nil {
		t := new(Trailer)
		return nil, t, json.Unmarshal(text, t)
	}
	if extra.Index == nil || extra.Entry == nil || extra.PreviousHash == nil || extra.Hash == nil {
		return nil, nil, fmt.Errorf("not a line of an export: one of index, entry, previousHash and hash is missing")
	}
	l := &Line{Proof: extra.Proof}
	l.Record.Index = *extra.Index
	l.Record.Entry = []byte(*extra.Entry)
	var err error
	if l.Previous, err = ParseHex(*extra.PreviousHash); err != nil {
		return nil, nil, fmt.Errorf("previousHash: %w", err)
	}
	if l.Record.Chain, err = ParseHex(*extra.Hash); err != nil {
		return nil, nil, fmt.Errorf("hash: %w", err)
	}
	if l.Event, err = event.ParseServed(text); err != nil {
		return nil, nil, err
	}
	if extra.Salt != nil {
		if n, err := hex.Decode(l.Record.Salt[:], []byte(*extra.Salt)); err != nil || n != len(l.Record.Salt) {
			return nil, nil, fmt.Errorf("salt: not %d hexadecimal digits", 2*len(l.Record.Salt))
		}
		l.Record.Erasable = l.Event.AppendErasable(nil)
	}
	return l, nil, nil
}
