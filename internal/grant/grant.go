// Package grant gives out tokens and revokes them, each by an event of the
// ledger first: what could not be recorded does not take effect.
package grant

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
)

// A Granter gives out and revokes tokens. It may be used concurrently.
type Granter struct {
	Tokens  *access.Tokens
	Journal *ledger.Journal
	Now     func() time.Time

	mu sync.Mutex // makes checking, recording and saving a token one step
}

// Grant gives out a token. Its secret is told this once.
func (g *Granter) Grant(ctx context.Context, by ledger.By, tok access.Token) (made access.Token, secret string, err error) {
	tok.CreatedBy = by.Principal
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.Now()
	if err := g.Tokens.Check(tok, now); err != nil {
		return tok, "", err
	}
	details := map[string]any{"name": tok.Name, "role": string(tok.Role), "namespaces": tok.Namespaces, "attests": tok.Attests}
	if tok.ExpiresAt != nil {
		details["expiresAt"] = event.FormatTime(*tok.ExpiresAt)
	}
	if err := g.Journal.Once(ctx, ledger.Act{Type: "TokenCreated", By: by, Resource: event.Resource{Kind: "Token", Name: tok.Name}, Details: details}); err != nil {
		return tok, "", err
	}
	secret = access.NewSecret()
	if err := g.Tokens.Add(tok, secret, now); err != nil {
		// What was recorded did not come about.
		return tok, "", errors.Join(err, g.recordRevoked(ctx, by, tok.Name, "the token could not be saved"))
	}
	made, _ = g.Tokens.Get(tok.Name)
	return made, secret, nil
}

// Revoke revokes the token with a name, if may allows it.
func (g *Granter) Revoke(ctx context.Context, by ledger.By, name string, may func(*access.Token) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	tok, ok := g.Tokens.Get(name)
	if !ok {
		return access.ErrNoToken
	}
	if err := may(&tok); err != nil {
		return err
	}
	if err := g.recordRevoked(ctx, by, name, ""); err != nil {
		return err
	}
	return g.Tokens.Revoke(name)
}

func (g *Granter) recordRevoked(ctx context.Context, by ledger.By, name, reason string) error {
	details := map[string]any{"name": name}
	if reason != "" {
		details["reason"] = reason
	}
	return g.Journal.Once(ctx, ledger.Act{Type: "TokenRevoked", By: by, Resource: event.Resource{Kind: "Token", Name: name}, Details: details})
}

// Parse reads the token that somebody asks for, as a JSON object of name, role,
// namespaces, attests, and expiresAt, an RFC 3339 time, or expiresIn, such as
// 90d.
func Parse(data []byte, now time.Time) (access.Token, error) {
	var tok access.Token
	var role, expiresAt, expiresIn string
	sc := jcs.NewScanner(data)
	str := func(dst *string) (err error) { *dst, err = sc.String(); return err }
	err := sc.Members(func(name []byte) (err error) {
		switch string(name) {
		case "name":
			return str(&tok.Name)
		case "role":
			return str(&role)
		case "expiresAt":
			return str(&expiresAt)
		case "expiresIn":
			return str(&expiresIn)
		case "attests":
			tok.Attests, err = sc.Bool()
			return err
		case "namespaces":
			tok.Namespaces = []string{}
			return sc.Array(func(int) error {
				ns, err := sc.String()
				tok.Namespaces = append(tok.Namespaces, ns)
				return err
			})
		}
		return &jcs.Error{Reason: "no such member of a token"}
	})
	if err == nil {
		err = sc.End()
	}
	if err != nil {
		return access.Token{}, err
	}
	if tok.Role, err = access.ParseRole(role); err != nil {
		return tok, &event.FieldError{Field: "role", Reason: err.Error()}
	}
	var at time.Time
	switch {
	case expiresAt != "" && expiresIn != "":
		return tok, &event.FieldError{Field: "expiresIn", Reason: "given beside expiresAt"}
	case expiresAt != "":
		if at, err = event.ParseTime(expiresAt); err != nil {
			return tok, &event.FieldError{Field: "expiresAt", Reason: err.Error()}
		}
	case expiresIn != "":
		in, err := search.ParseAge(expiresIn)
		if err != nil {
			return tok, &event.FieldError{Field: "expiresIn", Reason: "not a duration such as 12h or 90d"}
		}
		at = now.Add(in).UTC().Truncate(time.Second)
	default:
		return tok, nil
	}
	tok.ExpiresAt = &at
	return tok, nil
}
