package access

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/datadir"
)

// A Token lets its bearer act. Only a hash of it is kept.
type Token struct {
	Name string `json:"name"`
	Role Role   `json:"role"`
	// Namespaces, if not nil, are the only ones that the bearer sees; an
	// empty list shows nothing, and must not become nil on its way to the disk.
	Namespaces []string   `json:"namespaces,omitzero"`
	Attests    bool       `json:"attests,omitempty"`
	CreatedAt  time.Time  `json:"createdAt"`
	CreatedBy  string     `json:"createdBy"`
	ExpiresAt  *time.Time `json:"expiresAt,omitempty"`
	// Hash is SHA-256 of the token, in hexadecimal. Tokens are random, so
	// that no slow hash is needed.
	Hash string `json:"hash,omitempty"`
}

var (
	// ErrToken means that a token is unknown, revoked or expired. Callers are
	// not told which.
	ErrToken = errors.New("the token is not valid")
	// ErrNoToken means that there is no token of that name.
	ErrNoToken = errors.New("no token of that name")
	// ErrExists means that there is a token of that name already.
	ErrExists = errors.New("there is a token of that name already")
)

// Tokens are the tokens that are valid, kept in a document: a file, or a row.
type Tokens struct {
	from string
	save func([]byte) error

	mu     sync.RWMutex
	byHash map[string]*Token
}

// OpenTokens reads the tokens kept in the file at path, which need not exist;
// save replaces the file's content, atomically and durably.
func OpenTokens(path string, save func(data []byte) error) (*Tokens, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return NewTokens(path, data, save)
}

// NewTokens reads the tokens in a document, which is nil where there is none;
// from says where it is kept, and save replaces its content.
func NewTokens(from string, data []byte, save func(data []byte) error) (*Tokens, error) {
	t := &Tokens{from: from, save: save, byHash: map[string]*Token{}}
	return t, t.Replace(data)
}

// Replace makes the tokens in a document the valid ones.
func (t *Tokens) Replace(data []byte) error {
	byHash, err := readTokens(data)
	if err != nil {
		return fmt.Errorf("read tokens from %s: %w", t.from, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byHash = byHash
	return nil
}

// readTokens reads a document, by the tokens' hashes.
func readTokens(data []byte) (map[string]*Token, error) {
	byHash, names := map[string]*Token{}, map[string]bool{}
	if data == nil {
		return byHash, nil
	}
	list, err := parseTokens(data)
	if err != nil {
		return nil, err
	}
	for i, tok := range list {
		if tok == nil {
			return nil, fmt.Errorf("number %d is null", i)
		}
		_, err := ParseRole(string(tok.Role))
		if sum, hexErr := hex.DecodeString(tok.Hash); err != nil || hexErr != nil || len(sum) != sha256.Size || tok.Name == "" {
			return nil, fmt.Errorf("the token %.40q is malformed", tok.Name)
		}
		if names[tok.Name] || byHash[tok.Hash] != nil {
			return nil, fmt.Errorf("the token %.40q stands twice", tok.Name)
		}
		byHash[tok.Hash], names[tok.Name] = tok, true
	}
	return byHash, nil
}

// parseTokens reads a list of tokens. A member that is not known may take
// something from what a token allows, and is refused. Later formats are an
// object with the member v.
func parseTokens(data []byte) ([]*Token, error) {
	var later struct{ V int }
	if err := json.Unmarshal(data, &later); err == nil && later.V > 1 {
		return nil, datadir.Newer("the list is", later.V, 1)
	}
	var list []*Token
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil && strings.Contains(err.Error(), "unknown field") {
		return nil, fmt.Errorf("%w: %w; use the version that wrote it", datadir.ErrNewer, err)
	} else if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something stands behind the list")
	}
	return list, nil
}

// NewSecret makes a token's text: 32 random bytes behind a mark by which
// secret scanners find it.
func NewSecret() string {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic("internal error: no randomness: " + err.Error())
	}
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// prefix is that of every secret.
const prefix = "gvn_"

// IsOurs reports whether a secret looks like that of a token, good or not.
func IsOurs(secret string) bool { return strings.HasPrefix(secret, prefix) }

func hash(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// Limits of a token.
const (
	maxName       = 128
	maxNamespaces = 256
	maxNamespace  = 253
)

// Check holds a token that is to be made against the rules. What it finds is
// an [event.FieldError] or [ErrExists].
func (t *Tokens) Check(tok Token, now time.Time) error {
	if err := check(&tok, now); err != nil {
		return err
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.named(tok.Name) != nil {
		return ErrExists
	}
	return nil
}

func check(tok *Token, now time.Time) error {
	bad := func(field, format string, args ...any) error {
		return &event.FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
	}
	control := func(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) || !utf8.ValidString(s) }
	switch {
	case tok.Name == "" || len(tok.Name) > maxName || control(tok.Name) || strings.TrimSpace(tok.Name) != tok.Name:
		return bad("name", "1 to %d characters, none of them a control character, no space at the ends", maxName)
	case tok.Name == "anonymous" || tok.Name == "graven":
		return bad("name", "%s is taken by the server itself", tok.Name)
	case tok.ExpiresAt != nil && !tok.ExpiresAt.After(now):
		return bad("expiresAt", "lies in the past")
	case len(tok.Namespaces) > maxNamespaces:
		return bad("namespaces", "more than %d", maxNamespaces)
	}
	for _, ns := range tok.Namespaces {
		if ns == "" || len(ns) > maxNamespace || control(ns) {
			return bad("namespaces", "%.40q is no name of a namespace", ns)
		}
	}
	if _, err := ParseRole(string(tok.Role)); err != nil {
		return bad("role", "%v", err)
	}
	return nil
}

// named returns the token of that name, or nil. t.mu must be held.
func (t *Tokens) named(name string) *Token {
	for _, tok := range t.byHash {
		if tok.Name == name {
			return tok
		}
	}
	return nil
}

// Add makes a token valid for whoever bears secret. Names are unique.
func (t *Tokens) Add(tok Token, secret string, now time.Time) error {
	if err := check(&tok, now); err != nil {
		return err
	}
	tok.Hash, tok.CreatedAt = hash(secret), now.UTC().Truncate(time.Second)
	tok.Namespaces = slices.Clone(tok.Namespaces)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.named(tok.Name) != nil {
		return ErrExists
	}
	t.byHash[tok.Hash] = &tok
	if err := t.write(); err != nil {
		delete(t.byHash, tok.Hash)
		return err
	}
	return nil
}

// Revoke makes the token of that name invalid, at once.
func (t *Tokens) Revoke(name string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	tok := t.named(name)
	if tok == nil {
		return ErrNoToken
	}
	delete(t.byHash, tok.Hash)
	if err := t.write(); err != nil {
		t.byHash[tok.Hash] = tok
		return err
	}
	return nil
}

// List returns the tokens by name, without their hashes.
func (t *Tokens) List() []Token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.sorted(false)
}

// Get returns the token of that name, without its hash.
func (t *Tokens) Get(name string) (Token, bool) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	tok := t.named(name)
	if tok == nil {
		return Token{}, false
	}
	c := *tok
	c.Hash = ""
	return c, true
}

// Authenticate returns the principal who bears secret.
func (t *Tokens) Authenticate(secret string, now time.Time) (*Principal, error) {
	t.mu.RLock()
	tok := t.byHash[hash(secret)]
	t.mu.RUnlock()
	if tok == nil || tok.ExpiresAt != nil && !now.Before(*tok.ExpiresAt) {
		return nil, ErrToken
	}
	return &Principal{Name: tok.Name, Via: ViaToken, Role: tok.Role, Namespaces: tok.Namespaces, Attests: tok.Attests}, nil
}

func (t *Tokens) sorted(hashes bool) []Token {
	list := make([]Token, 0, len(t.byHash))
	for _, tok := range t.byHash {
		c := *tok
		if !hashes {
			c.Hash = ""
		}
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b Token) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (t *Tokens) write() error {
	data, err := json.MarshalIndent(t.sorted(true), "", "  ")
	if err != nil {
		return err
	}
	if err := t.save(append(data, '\n')); err != nil {
		return fmt.Errorf("write tokens: %w", err)
	}
	return nil
}
