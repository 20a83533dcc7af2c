package rest

import (
	"errors"
	"net/http"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/internal/ledger"
	"github.com/graven-audit/graven/internal/search"
)

// listTokens answers GET /api/v1/tokens.
func (s *Server) listTokens(c *call) error {
	if err := c.noParams(); err != nil {
		return err
	}
	if err := s.unscoped(c); err != nil {
		return err
	}
	return c.document(http.StatusOK, map[string]any{"tokens": s.c.Tokens.List()})
}

// A newToken is the body of POST /api/v1/tokens.
type newToken struct {
	Name       string   `json:"name"`
	Role       string   `json:"role"`
	Namespaces []string `json:"namespaces"`
	Attests    bool     `json:"attests"`
	// ExpiresAt is an RFC 3339 time; ExpiresIn, as in 90d, is an alternative.
	ExpiresAt string `json:"expiresAt"`
	ExpiresIn string `json:"expiresIn"`
}

// createToken answers POST /api/v1/tokens. The grant is recorded before it
// takes effect; the secret is shown this once.
func (s *Server) createToken(c *call) error {
	if err := c.noParams(); err != nil {
		return err
	}
	data, err := s.body(c)
	if err != nil {
		return err
	}
	tok, err := s.parseToken(data)
	if err != nil {
		return err
	}
	tok.CreatedBy = c.by.Name
	if err := s.mayGrant(c, &tok); err != nil {
		return err
	}
	s.granting.Lock()
	defer s.granting.Unlock()
	now := s.c.Now()
	if err := s.c.Tokens.Check(tok, now); err != nil {
		return err
	}
	details := map[string]any{"name": tok.Name, "role": string(tok.Role), "namespaces": tok.Namespaces, "attests": tok.Attests}
	if tok.ExpiresAt != nil {
		details["expiresAt"] = event.FormatTime(*tok.ExpiresAt)
	}
	if err := s.c.Journal.Once(c.ctx(), ledger.Act{Type: "TokenCreated", By: c.recorder(),
		Resource: event.Resource{Kind: "Token", Name: tok.Name}, Details: details}); err != nil {
		return err
	}
	secret := access.NewSecret()
	if err := s.c.Tokens.Add(tok, secret, now); err != nil {
		// What was recorded did not come about.
		return errors.Join(err, s.recordRevoked(c, tok.Name, "the token could not be saved"))
	}
	made, _ := s.c.Tokens.Get(tok.Name)
	return c.document(http.StatusCreated, struct {
		access.Token
		Secret string `json:"token"`
	}{made, secret})
}

func (s *Server) parseToken(data []byte) (access.Token, error) {
	var n newToken
	sc := jcs.NewScanner(data)
	str := func(dst *string) (err error) { *dst, err = sc.String(); return err }
	err := sc.Members(func(name []byte) (err error) {
		switch string(name) {
		case "name":
			return str(&n.Name)
		case "role":
			return str(&n.Role)
		case "expiresAt":
			return str(&n.ExpiresAt)
		case "expiresIn":
			return str(&n.ExpiresIn)
		case "attests":
			n.Attests, err = sc.Bool()
			return err
		case "namespaces":
			n.Namespaces = []string{}
			return sc.Array(func(int) error {
				ns, err := sc.String()
				n.Namespaces = append(n.Namespaces, ns)
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
	tok := access.Token{Name: n.Name, Namespaces: n.Namespaces, Attests: n.Attests}
	if tok.Role, err = access.ParseRole(n.Role); err != nil {
		return tok, &event.FieldError{Field: "role", Reason: err.Error()}
	}
	var at time.Time
	switch {
	case n.ExpiresAt != "" && n.ExpiresIn != "":
		return tok, &event.FieldError{Field: "expiresIn", Reason: "given beside expiresAt"}
	case n.ExpiresAt != "":
		if at, err = event.ParseTime(n.ExpiresAt); err != nil {
			return tok, &event.FieldError{Field: "expiresAt", Reason: err.Error()}
		}
	case n.ExpiresIn != "":
		in, err := search.ParseAge(n.ExpiresIn)
		if err != nil {
			return tok, &event.FieldError{Field: "expiresIn", Reason: "not a duration such as 12h or 90d"}
		}
		at = s.c.Now().Add(in).UTC().Truncate(time.Second)
	default:
		return tok, nil
	}
	tok.ExpiresAt = &at
	return tok, nil
}

// revokeToken answers DELETE /api/v1/tokens/{name}.
func (s *Server) revokeToken(c *call) error {
	if err := c.noParams(); err != nil {
		return err
	}
	s.granting.Lock()
	defer s.granting.Unlock()
	name := c.r.PathValue("name")
	tok, ok := s.c.Tokens.Get(name)
	if !ok {
		return access.ErrNoToken
	}
	if err := s.mayGrant(c, &tok); err != nil {
		return err
	}
	if err := s.recordRevoked(c, name, ""); err != nil {
		return err
	}
	if err := s.c.Tokens.Revoke(name); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// mayGrant refuses callers who may not give out a token, or take it away.
func (s *Server) mayGrant(c *call, tok *access.Token) error {
	if err := s.unscoped(c); err != nil {
		return err
	}
	if !c.by.MayGrant(tok) {
		what := "the role " + string(tok.Role)
		if tok.Attests {
			what += " with attests"
		}
		return s.refuse(c, "tokens of "+what, "a "+string(c.by.Role)+" cannot give out or revoke "+what)
	}
	return nil
}

func (s *Server) recordRevoked(c *call, name, reason string) error {
	details := map[string]any{"name": name}
	if reason != "" {
		details["reason"] = reason
	}
	return s.c.Journal.Once(c.ctx(), ledger.Act{Type: "TokenRevoked", By: c.recorder(),
		Resource: event.Resource{Kind: "Token", Name: name}, Details: details})
}
