package rest

import (
	"net/http"

	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/grant"
)

// listTokens answers GET /api/v1/tokens.
func (s *Server) listTokens(c *call) error {
	if err := s.unscoped(c); err != nil {
		return err
	}
	return c.document(http.StatusOK, map[string]any{"tokens": s.c.Tokens.List()})
}

// createToken answers POST /api/v1/tokens. The secret is shown this once.
func (s *Server) createToken(c *call) error {
	data, err := s.body(c)
	if err != nil {
		return err
	}
	tok, err := grant.Parse(data, s.c.Now())
	if err != nil {
		return err
	}
	if err := s.mayGrant(c, &tok); err != nil {
		return err
	}
	made, secret, err := s.grants.Grant(c.ctx(), c.recorder(), tok)
	if err != nil {
		return err
	}
	return c.document(http.StatusCreated, struct {
		access.Token
		Secret string `json:"token"`
	}{made, secret})
}

// revokeToken answers DELETE /api/v1/tokens/{name}.
func (s *Server) revokeToken(c *call) error {
	may := func(tok *access.Token) error { return s.mayGrant(c, tok) }
	if err := s.grants.Revoke(c.ctx(), c.recorder(), c.r.PathValue("name"), may); err != nil {
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
