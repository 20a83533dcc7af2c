package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/trail"
)

// An answer is what became of asking a witness about a checkpoint: the
// signature's line, or an error, which is a [Refusal] if the witness has seen
// something else than the ledger.
type answer struct {
	peer  *peer
	about *trail.Checkpoint
	line  string
	err   error
}

// errStale means that a witness holds a newer checkpoint of ours: whoever has
// one may show it to the witness.
var errStale = errors.New("the witness holds a newer checkpoint of the ledger")

// ask asks a witness to cosign c. newest returns the ledger's size.
func (q *Quorum) ask(ctx context.Context, p *peer, c *trail.Checkpoint, newest func() int64, answers chan<- answer) {
	ctx, cancel := context.WithTimeout(ctx, q.c.Timeout)
	defer cancel()
	line, err := q.cosign(ctx, p, c, newest)
	answers <- answer{p, c, line, err}
}

// cosign learns what the witness holds, if need be, and has it sign.
func (q *Quorum) cosign(ctx context.Context, p *peer, c *trail.Checkpoint, newest func() int64) (string, error) {
	refuses := func(format string, args ...any) error {
		return &Refusal{Witness: p.Key.Name(), URL: p.URL, Size: c.Size, Held: p.held, Reason: fmt.Sprintf(format, args...)}
	}
	for range 3 {
		old := min(p.held, c.Size)
		proof, err := q.prove(ctx, old, c)
		if err != nil {
			return "", err
		}
		status, body, err := q.post(ctx, p, &request{old, proof, c.Note})
		if err != nil {
			return "", err
		}
		switch status {
		case http.StatusOK:
			line, err := p.signature(c, body)
			if err == nil {
				p.held = c.Size
			}
			return line, err
		case http.StatusConflict:
			size, err := parseSize(strings.TrimSuffix(string(body), "\n"))
			if err != nil {
				return "", fmt.Errorf("the witness does not tell what it holds: %w", err)
			}
			p.held = size
			switch {
			case size > newest():
				return "", refuses("it holds %d entries", size)
			case size > c.Size:
				return "", errStale
			case size == old && old == c.Size:
				return "", refuses("it holds as many with another root")
			case size == old:
				return "", fmt.Errorf("the witness holds %d entries, and does not take a proof from there", size)
			}
		case http.StatusUnprocessableEntity:
			return "", refuses("the %d that it holds are not the first of the ledger", old)
		case http.StatusNotFound:
			return "", fmt.Errorf("the witness does not know the ledger, or not at this address (404): give the ledger's public key to whoever runs it")
		case http.StatusForbidden:
			return "", fmt.Errorf("the witness knows another key of the ledger (403): give the ledger's public key to whoever runs it")
		default:
			return "", fmt.Errorf("the witness answers %d: %.200q", status, body)
		}
	}
	return "", errors.New("the witness says again and again that it holds something else")
}

// prove proves that c's ledger extends its own first old entries.
func (q *Quorum) prove(ctx context.Context, old int64, c *trail.Checkpoint) (tlog.TreeProof, error) {
	if old == 0 || old == c.Size {
		return nil, nil
	}
	if err := q.c.Tree.Wait(ctx, c.Size); err != nil {
		return nil, err
	}
	proof, err := tlog.ProveTree(c.Size, old, q.c.Tree)
	if err != nil {
		return nil, fmt.Errorf("prove that %d entries extend %d: %w", c.Size, old, err)
	}
	root, err := tlog.TreeHash(old, q.c.Tree)
	if err == nil {
		err = tlog.CheckTree(proof, c.Size, c.Root, old, root)
	}
	if err != nil {
		return nil, fmt.Errorf("the ledger's own hashes do not prove that %d entries extend %d: %w", c.Size, old, err)
	}
	return proof, nil
}

// post makes one call.
func (q *Quorum) post(ctx context.Context, p *peer, r *request) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.URL, "/")+path, bytes.NewReader(r.marshal()))
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	resp, err := q.c.Client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return 0, nil, err
	case len(body) > maxBody:
		return 0, nil, fmt.Errorf("the witness answers with more than %d bytes", maxBody)
	case resp.StatusCode == http.StatusConflict && resp.Header.Get("Content-Type") != sizeType:
		return 0, nil, fmt.Errorf("the answer 409 is of type %.60q, not %s", resp.Header.Get("Content-Type"), sizeType)
	}
	return resp.StatusCode, body, nil
}

// signature returns the line of an answer that is the witness's signature.
func (p *peer) signature(c *trail.Checkpoint, lines []byte) (string, error) {
	n, err := note.Open([]byte(c.Text()+"\n"+string(lines)), note.VerifierList(p.Key))
	if err != nil {
		return "", fmt.Errorf("the witness does not answer with its signature: %w", err)
	}
	return fmt.Sprintf("— %s %s\n", n.Sigs[0].Name, n.Sigs[0].Base64), nil
}
