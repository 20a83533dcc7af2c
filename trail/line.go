package trail

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
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
//	leaf          the hash of the entry's leaf, in hexadecimal, where the entry
//	              was erased and "entry" is what remains of it
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
	if l.Record.Leaf != nil {
		dst = append(dst, `,"leaf":"`...)
		dst = hex.AppendEncode(dst, l.Record.Leaf[:])
		dst = append(dst, '"')
	}
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

// Check holds what the line, read from text, shows to a reader against its
// entry, in every byte; whether the entry is in the ledger, it does not check.
// The error is an [ErasableError] where only the erasable content is at fault.
func (l *Line) Check(text []byte) error {
	_, want, err := event.ParseEntry(l.Record.Entry)
	if err != nil {
		return fmt.Errorf("the entry cannot be read: %w", err)
	}
	digests := want
	if l.Record.Erasable != nil {
		digests = l.Event.Digests(l.Record.Salt)
		if err := compareDigests(digests, want); err != nil {
			return err
		}
	} else if len(l.Event.Details) > 0 || l.Event.Error.Message != "" || len(l.Event.Original) > 0 {
		return &ErasableError{"the line has details, and no salt to check them with"}
	}
	if rebuilt := l.Event.AppendEntry(nil, digests); !bytes.Equal(rebuilt, l.Record.Entry) {
		return fmt.Errorf("the line's member %q is not that of the entry", difference(rebuilt, l.Record.Entry))
	}
	newline := []byte("\n")
	if !bytes.Equal(bytes.TrimSuffix(l.Append(nil), newline), bytes.TrimSuffix(text, newline)) {
		return errors.New("the line is not in the form in which it was exported")
	}
	return nil
}

// difference returns the path of the first member that differs between two
// objects.
func difference(a, b []byte) string {
	x, y := members(a), members(b)
	for name := range x {
		if _, ok := y[name]; !ok {
			y[name] = nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(y)) {
		if v, w := x[name], y[name]; !bytes.Equal(v, w) {
			if len(v) > 0 && v[0] == '{' && len(w) > 0 && w[0] == '{' {
				return name + "." + difference(v, w)
			}
			return name
		}
	}
	return ""
}

// members returns an object's members, or those before its first fault.
func members(object []byte) map[string][]byte {
	found := map[string][]byte{}
	s := jcs.NewScanner(object)
	_ = s.Object(func(name []byte) error {
		value, err := s.Skip()
		found[string(name)] = value
		return err
	})
	return found
}

// A Trailer is the last line of an export that was made with a checkpoint.
type Trailer struct {
	// Checkpoint is the signed note under which the export was made.
	Checkpoint string `json:"checkpoint"`
	// Filter holds the parameters of the query; empty for a whole export.
	Filter map[string]string `json:"filter"`
	// Count is the number of lines before this one.
	Count int64 `json:"count"`
	// Cosigned is the newest checkpoint of the ledger that witnesses have
	// cosigned, a signed note; empty for none. Extends is the consistency
	// proof that Checkpoint extends it.
	Cosigned string         `json:"cosigned,omitempty"`
	Extends  tlog.TreeProof `json:"extends,omitempty"`
}

// CheckExtends checks that checkpoint c, which is the trailer's, extends the
// cosigned one. Nobody's signature is checked.
func (t *Trailer) CheckExtends(c *Checkpoint) error {
	old, err := ReadCheckpoint([]byte(t.Cosigned))
	switch {
	case err != nil:
		return err
	case old.Origin != c.Origin:
		return fmt.Errorf("it is of the ledger %.100q", old.Origin)
	case old.Size < 1 || old.Size > c.Size:
		return fmt.Errorf("it speaks of %d entries, the export's of %d", old.Size, c.Size)
	}
	if err := tlog.CheckTree(t.Extends, c.Size, c.Root, old.Size, old.Root); err != nil {
		return fmt.Errorf("the ledger of %d entries is not shown to extend it: %w", c.Size, err)
	}
	return nil
}

// Whole reports whether the export holds every entry under its checkpoint.
func (t *Trailer) Whole() bool { return len(t.Filter) == 0 }

// ParseLine reads one line of an export: an event's, or the trailer, which is
// the line that has a member "checkpoint". Names of members count in their
// exact spelling, and none may stand twice.
func ParseLine(text []byte) (*Line, *Trailer, error) {
	p := lineParser{s: jcs.NewScanner(text)}
	err := p.s.Object(p.member)
	if err == nil {
		err = p.s.End()
	}
	if err != nil {
		return nil, nil, err
	}
	if p.seen["checkpoint"] {
		t := new(Trailer)
		return nil, t, json.Unmarshal(text, t)
	}
	for _, name := range []string{"index", "entry", "previousHash", "hash"} {
		if !p.seen[name] {
			return nil, nil, fmt.Errorf("not a line of an export: it has no member %s", name)
		}
	}
	l := &p.line
	if l.Record.Leaf != nil && p.seen["salt"] {
		return nil, nil, errors.New("leaf: an entry that was erased has no salt")
	}
	if l.Event, err = event.ParseServed(text); err != nil {
		return nil, nil, err
	}
	if p.seen["salt"] {
		l.Record.Erasable = l.Event.AppendErasable(nil)
	}
	return l, nil, nil
}

// maxLine bounds the lines of an export, in bytes. The longest event makes a
// line of less than a quarter of it.
const maxLine = 8 << 20

// LastLine returns the last line of an export if it is a checkpoint's, and nil
// otherwise.
func LastLine(r io.ReadSeeker) (*Trailer, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	tail := make([]byte, min(size, maxLine))
	if _, err := r.Seek(size-int64(len(tail)), io.SeekStart); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(r, tail); err != nil {
		return nil, err
	}
	tail = bytes.TrimSuffix(tail, []byte("\n"))
	_, t, err := ParseLine(tail[bytes.LastIndexByte(tail, '\n')+1:])
	if err != nil {
		return nil, nil // checking the lines will say what is wrong with it
	}
	return t, nil
}

// A lineParser reads what stands beside an event's own members.
type lineParser struct {
	s    *jcs.Scanner
	line Line
	seen map[string]bool
}

func (p *lineParser) member(name []byte) (err error) {
	l := &p.line
	if p.seen == nil {
		p.seen = make(map[string]bool, 32)
	}
	if p.seen[string(name)] {
		return &jcs.Error{Reason: "stands twice"}
	}
	p.seen[string(name)] = true
	switch string(name) {
	case "index":
		l.Record.Index, err = p.s.Int()
		if err == nil && l.Record.Index < 0 {
			err = &jcs.Error{Reason: "is negative"}
		}
	case "entry":
		var entry string
		entry, err = p.s.String()
		l.Record.Entry = []byte(entry)
	case "leaf":
		l.Record.Leaf = new(Hash)
		err = p.hex(l.Record.Leaf[:])
	case "salt":
		err = p.hex(l.Record.Salt[:])
	case "previousHash":
		err = p.hex(l.Previous[:])
	case "hash":
		err = p.hex(l.Record.Chain[:])
	case "proof":
		l.Proof = tlog.RecordProof{}
		err = p.s.Array(func(int) error {
			text, err := p.s.String()
			if err != nil {
				return err
			}
			h, err := parseHash(text)
			if err != nil {
				return &jcs.Error{Reason: err.Error()}
			}
			l.Proof = append(l.Proof, h)
			return nil
		})
	default:
		_, err = p.s.Skip()
	}
	return err
}

func (p *lineParser) hex(dst []byte) error {
	text, err := p.s.String()
	if err != nil {
		return err
	}
	if len(text) == 2*len(dst) {
		_, err = hex.Decode(dst, []byte(text))
	}
	if err != nil || hex.EncodeToString(dst) != text {
		return &jcs.Error{Reason: fmt.Sprintf("not %d lower-case hexadecimal digits", 2*len(dst))}
	}
	return nil
}
