package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/graven-audit/graven/client"
	"github.com/graven-audit/graven/internal/datadir"
)

const defaultURL = "http://127.0.0.1:8090"

// A connection is how a client command reaches its server.
type connection struct {
	url, tokenFile string
}

func (c *connection) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.url, "url", "", "the server's address (default $GRAVEN_URL or "+defaultURL+")")
	cmd.Flags().StringVar(&c.tokenFile, "token-file", "", "file that holds the token (default $GRAVEN_TOKEN, else ./graven-data/admin.token for a server on this machine)")
}

// address returns the server's address.
func (c *connection) address() string {
	switch {
	case c.url != "":
		return c.url
	case os.Getenv("GRAVEN_URL") != "":
		return os.Getenv("GRAVEN_URL")
	}
	return defaultURL
}

// tokenSource returns the token to show to a server, or the file that holds it;
// there may be neither. A token that nobody has named, the one of a data
// directory in ./graven-data, is shown to a server on this machine only.
func (c *connection) tokenSource(server string) (token, file string) {
	if c.tokenFile != "" {
		return "", c.tokenFile
	}
	if t := os.Getenv("GRAVEN_TOKEN"); t != "" {
		return t, ""
	}
	path := filepath.Join("graven-data", datadir.AdminTokenFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) || !isLocal(server) {
		return "", ""
	}
	return "", path
}

// token returns the token to show to a server, which may be none.
func (c *connection) token(server string) (string, error) {
	token, file := c.tokenSource(server)
	if file == "" {
		return token, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// isLocal reports whether a server's address leads back to this machine.
func isLocal(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(u.Hostname(), "localhost")
}

func (c *connection) client() (*client.Client, error) {
	token, err := c.token(c.address())
	if err != nil {
		return nil, err
	}
	made, err := client.New(client.Config{URL: c.address(), Token: token, UserAgent: "graven/" + version})
	if err != nil {
		return nil, usage("%w", err)
	}
	return made, nil
}

// print sends a request without a body, and prints the answer.
func (c *connection) print(cmd *cobra.Command, method, path string) (http.Header, error) {
	made, err := c.client()
	if err != nil {
		return nil, err
	}
	resp, err := made.Do(cmd.Context(), method, path, nil, "", nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(cmd.OutOrStdout(), io.LimitReader(resp.Body, 1<<20))
	return resp.Header, err
}

// ask sends a request with a JSON body, if there is one, and reads the answer.
// What the server finds wrong with the body, the flags are to blame for.
func ask(ctx context.Context, c *client.Client, method, path string, q url.Values, body, into any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return err
		}
	}
	resp, err := c.Do(ctx, method, path, q, "application/json", bytes.NewReader(text))
	var p *client.Problem
	if errors.As(err, &p) && p.Status == http.StatusBadRequest {
		return usage("%w", err)
	}
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return json.NewDecoder(resp.Body).Decode(into)
}

// positive is the value of a flag: a number from 1 on. 0 stands for none.
type positive int

func (p *positive) String() string { return itoa(int(*p)) }
func (p *positive) Type() string   { return "int" }

func (p *positive) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		return errors.New("not a number from 1 on")
	}
	*p = positive(n)
	return nil
}

// set makes the number, if there is one, the parameter limit.
func (p positive) set(q url.Values) {
	if p > 0 {
		q.Set("limit", itoa(int(p)))
	}
}

func limitFlag(cmd *cobra.Command, limit *positive, help string) {
	cmd.Flags().Var(limit, "limit", help)
	cobra.CheckErr(cmd.RegisterFlagCompletionFunc("limit", cobra.NoFileCompletions))
}

func itoa[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }
