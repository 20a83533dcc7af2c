package trail

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Proof shows that the entry at Index is in the ledger that Checkpoint
// signs (C2SP tlog-proof). It does not hold the entry.
type Proof struct {
	Index      int64
	Hashes     tlog.RecordProof
	Extra      []byte // not authenticated
	Checkpoint []byte // signed note
}

const proofHeader = "c2sp.org/tlog-proof@v1\n"

// Marshal returns the proof's text form.
func (p *Proof) Marshal() []byte {
	b := []byte(proofHeader)
	if len(p.Extra) > 0 {
		b = append(b, "extra "...)
		b = base64.StdEncoding.AppendEncode(b, p.Extra)
		b = append(b, '\n')
	}
	b = append(b, "index "...)
	b = strconv.AppendInt(b, p.Index, 10)
	b = append(b, '\n')
	for _, h := range p.Hashes {
		b = base64.StdEncoding.AppendEncode(b, h[:])
		b = append(b, '\n')
	}
	b = append(b, '\n')
	return append(b, p.Checkpoint...)
}

// ParseProof reads what [Proof.Marshal] writes. Nothing is verified.
func ParseProof(text []byte) (*Proof, error) {
	rest, ok := bytes.CutPrefix(text, []byte(proofHeader))
	if !ok {
		return nil, fmt.Errorf("proof: the first line is not %q", strings.TrimSpace(proofHeader))
	}
	head, checkpoint, ok := bytes.Cut(rest, []byte("\n\n"))
	if !ok {
		return nil, errors.New("proof: no checkpoint")
	}
	p := &Proof{Checkpoint: checkpoint}
	lines := strings.Split(string(head), "\n")
	if extra, ok := strings.CutPrefix(lines[0], "extra "); ok {
		var err error
		if p.Extra, err = base64.StdEncoding.DecodeString(extra); err != nil {
			return nil, fmt.Errorf("proof: extra data: %w", err)
		}
		lines = lines[1:]
	}
	if len(lines) == 0 {
		return nil, errors.New("proof: no index")
	}
	index, ok := strings.CutPrefix(lines[0], "index ")
	n, err := strconv.ParseInt(index, 10, 64)
	if !ok || err != nil || n < 0 || strconv.FormatInt(n, 10) != index {
		return nil, fmt.Errorf("proof: malformed index line %.40q", lines[0])
	}
	p.Index = n
	if len(lines) > 64 {
		return nil, errors.New("proof: too many hashes")
	}
	for _, line := range lines[1:] {
		h, err := parseHash(line)
		if err != nil {
			return nil, fmt.Errorf("proof: malformed hash %.60q", line)
		}
		p.Hashes = append(p.Hashes, h)
	}
	return p, nil
}

// Verify checks that entry stands at the proof's index under its checkpoint,
// signed by one of keys, and returns the checkpoint.
func (p *Proof) Verify(entry []byte, keys ...note.Verifier) (*Checkpoint, error) {
	c, err := OpenCheckpoint(p.Checkpoint, keys...)
	if err != nil {
		return nil, err
	}
	if p.Index >= c.Size {
		return nil, fmt.Errorf("index %d is not under a checkpoint of %d entries", p.Index, c.Size)
	}
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, LeafHash(entry)); err != nil {
		return nil, fmt.Errorf("entry %d is not under the checkpoint: %w", p.Index, err)
	}
	return c, nil
}
