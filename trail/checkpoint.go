package trail

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A Checkpoint is the statement that the ledger called Origin has Size entries
// and the root hash Root. Note is the statement in its signed form.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
	Note   []byte
}

// ErrUnsigned means that no signature on a note is by a given key.
var ErrUnsigned = errors.New("no signature by the given key")

// SignCheckpoint makes the signed note for a ledger's state.
func SignCheckpoint(origin string, size int64, root Hash, signer note.Signer) (*Checkpoint, error) {
	c := &Checkpoint{Origin: origin, Size: size, Root: root}
	signed, err := note.Sign(&note.Note{Text: c.Text()}, signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	c.Note = signed
	return c, nil
}

// Text returns the checkpoint's body, which is what signatures cover.
func (c *Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatInt(c.Size, 10) + "\n" +
		base64.StdEncoding.EncodeToString(c.Root[:]) + "\n"
}

// OpenCheckpoint reads a signed checkpoint and demands a signature by one of
// keys; without, the error is [ErrUnsigned]. A key whose note bears a false
// signature gives an error, whatever others say, and so does a signature that
// is not in the base64 that encoders write.
func OpenCheckpoint(signed []byte, keys ...note.Verifier) (*Checkpoint, error) {
	if _, err := Signers(signed); err != nil {
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	n, err := note.Open(signed, note.VerifierList(keys...))
	var unverified *note.UnverifiedNoteError
	switch {
	case errors.As(err, &unverified):
		return nil, ErrUnsigned
	case err != nil:
		return nil, fmt.Errorf("open checkpoint: %w", err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return nil, err
	}
	for _, s := range n.Sigs {
		if s.Name == c.Origin {
			c.Note = signed
			return c, nil
		}
	}
	return nil, ErrUnsigned
}

// ReadCheckpoint reads a checkpoint without checking any signature.
func ReadCheckpoint(signed []byte) (*Checkpoint, error) {
	end := bytes.Index(signed, []byte("\n\n"))
	if end < 0 {
		return nil, errors.New("checkpoint: no signatures")
	}
	c, err := parseCheckpoint(string(signed[:end+1]))
	if err != nil {
		return nil, err
	}
	c.Note = signed
	return c, nil
}

// maxSize is more than any ledger has. The arithmetic of trees overflows beyond
// four times as much, and loops for ever.
const maxSize = 1 << 60

func parseCheckpoint(text string) (*Checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[0] == "" {
		return nil, errors.New("checkpoint: not an origin, a size and a root hash on a line each")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return nil, fmt.Errorf("checkpoint: malformed size %.20q", lines[1])
	}
	if size > maxSize {
		return nil, fmt.Errorf("checkpoint: %d entries, more than there can be", size)
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != len(Hash{}) || base64.StdEncoding.EncodeToString(root) != lines[2] {
		return nil, fmt.Errorf("checkpoint: malformed root hash %.60q", lines[2])
	}
	return &Checkpoint{Origin: lines[0], Size: size, Root: Hash(root)}, nil
}
