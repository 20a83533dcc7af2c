package app

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/trail"
)

// A GivenError says what is wrong with what somebody gave to a flag.
type GivenError struct{ err error }

func (e *GivenError) Error() string { return e.err.Error() }
func (e *GivenError) Unwrap() error { return e.err }

func badGiven(format string, args ...any) error { return &GivenError{fmt.Errorf(format, args...)} }

// Keys reads public keys of ledgers, given to a flag as such or in files.
func Keys(flag string, args []string) ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, a := range args {
		text, err := textOrFile(flag, a, "+")
		if err != nil {
			return nil, err
		}
		n := len(keys)
		for _, line := range strings.Fields(string(text)) {
			v, err := note.NewVerifier(line)
			if err != nil {
				return nil, badGiven("%s %.80q: %w", flag, line, err)
			}
			keys = append(keys, v)
		}
		if len(keys) == n {
			return nil, badGiven("%s %.80q: no key there", flag, a)
		}
	}
	return keys, nil
}

// Checkpoints reads checkpoints, given to a flag as such or in files.
func Checkpoints(flag string, args []string) (list [][]byte, err error) {
	for _, s := range args {
		text, err := textOrFile(flag, s, "\n")
		if err != nil {
			return nil, err
		}
		if _, err := trail.ReadCheckpoint(text); err != nil {
			return nil, badGiven("%s %.80q: %w", flag, s, err)
		}
		list = append(list, text)
	}
	return list, nil
}

// Policy reads which witnesses must have cosigned a ledger, given to the flag
// --witness as keys or in files, and how many of them; 0 stands for all.
func Policy(args []string, threshold int) (cosign.Policy, error) {
	p := cosign.Policy{Need: threshold}
	for _, arg := range args {
		text, err := textOrFile("--witness", arg, "+")
		if err != nil {
			return p, err
		}
		for _, line := range strings.Fields(string(text)) {
			key, err := cosign.ParseWitness(line)
			if err != nil {
				return p, badGiven("--witness %.80q: %w", line, err)
			}
			p.Witnesses = append(p.Witnesses, key)
		}
	}
	if len(args) > 0 && len(p.Witnesses) == 0 {
		return p, badGiven("--witness: no key there")
	}
	if p.Need == 0 {
		p.Need = len(p.Witnesses)
	}
	if p.Need > len(p.Witnesses) {
		return p, badGiven("--threshold %d: there are %d witnesses", p.Need, len(p.Witnesses))
	}
	if err := p.Check(); err != nil {
		return p, badGiven("--witness: %v", err)
	}
	return p, nil
}

// textOrFile returns, of what a flag says, the content of the file called s or,
// if there is none and s contains mark, s itself.
func textOrFile(flag, s, mark string) ([]byte, error) {
	f, err := os.Open(s)
	switch {
	case err != nil && strings.Contains(s, mark):
		return []byte(s), nil
	case errors.Is(err, os.ErrNotExist):
		return nil, badGiven("%s: %w", flag, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
