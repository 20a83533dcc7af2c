package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/internal/filestore"
	"github.com/graven-audit/graven/trail"
	"github.com/graven-audit/graven/verify"
)

func newVerify() *cobra.Command {
	var conn connection
	var keys, since []string
	var output string
	var quiet, noMemory bool
	cmd := &cobra.Command{
		Use:   "verify TARGET",
		Short: "Check a ledger without trusting its keeper",
		Long: `Check a ledger: a data directory, also while its server runs; an export; or a
server's URL, whose tiles are fetched below /log/.

All entries are hashed again and held against the chain, the tree and the
signatures. Whatever is wrong is named with its place, and the exit code is 3.

Without --key the ledger's own word is taken for its key, so that all that can
be said is that it agrees with itself. Take the key from elsewhere.

This command remembers the newest checkpoint of each ledger that it found good,
below $XDG_STATE_HOME/graven, and demands that the ledger extends it.`,
		Example: `  graven verify ./graven-data
  graven verify ledger.ndjson --key ledger.vkey
  graven verify http://127.0.0.1:8090 --since /mnt/elsewhere/2026-11-21.checkpoint`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := verifyOptions(keys, since)
			if err != nil {
				return err
			}
			if !noMemory {
				o.Since = append(o.Since, seenBefore(cmd.Context(), &conn, args[0])...)
			}
			bar := newProgress(cmd.ErrOrStderr(), "verified")
			o.Progress = bar.show
			r, err := verifyTarget(cmd.Context(), &conn, args[0], o)
			bar.end()
			if err != nil {
				return err
			}
			if r.OK() && len(r.Checkpoint) > 0 && !noMemory {
				if err := remember(r.Checkpoint); err != nil {
					fmt.Fprintln(cmd.ErrOrStderr(), "graven: could not remember the checkpoint:", err)
				}
			}
			return printReport(cmd, r, output, quiet)
		},
	}
	conn.flags(cmd)
	cmd.Flags().StringArrayVar(&keys, "key", nil, "the ledger's public key, or a file with it, from a source you trust")
	cmd.Flags().StringArrayVar(&since, "since", nil, "an earlier checkpoint, or a file with it, that the ledger must extend")
	cmd.Flags().StringVarP(&output, "output", "o", "table", "how to print: table, json, yaml")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print nothing but what is wrong")
	cmd.Flags().BoolVar(&noMemory, "no-memory", false, "neither use nor update the remembered checkpoint")
	return cmd
}

func verifyOptions(keys, since []string) (verify.Options, error) {
	var o verify.Options
	var err error
	if o.Keys, err = readKeys(keys); err != nil {
		return o, err
	}
	for _, s := range since {
		text, err := textOrFile(s, "\n")
		if err != nil {
			return o, fmt.Errorf("--since: %w", err)
		}
		o.Since = append(o.Since, text)
	}
	return o, nil
}

// isURL reports whether a target is a server.
func isURL(target string) bool {
	return strings.HasPrefix(target, "http://") || strings.HasPrefix(target, "https://")
}

// verifyTarget checks a directory, a file, standard input, or a server.
func verifyTarget(ctx context.Context, conn *connection, target string, o verify.Options) (*verify.Report, error) {
	if isURL(target) {
		log, err := remoteLog(conn, target)
		if err != nil {
			return nil, err
		}
		return verify.Log(ctx, target, log.Fetch, o)
	}
	if target == "-" {
		return verify.Export(ctx, os.Stdin, o)
	}
	info, err := os.Stat(target)
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return filestore.Verify(ctx, target, o)
	}
	f, err := os.Open(target)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := verify.Export(ctx, f, o)
	if r != nil {
		r.Target = target
	}
	return r, err
}

// remoteLog reaches the ledger of a server.
func remoteLog(conn *connection, target string) (*verify.HTTP, error) {
	token, err := conn.token()
	if err != nil {
		return nil, err
	}
	return &verify.HTTP{URL: strings.TrimSuffix(strings.TrimRight(target, "/"), "/log") + "/log", Token: token}, nil
}

// seenBefore returns the remembered checkpoint that a target must extend. An
// export is as old as it is: it need not hold what came later.
func seenBefore(ctx context.Context, conn *connection, target string) [][]byte {
	var own []byte
	isExport := false
	if isURL(target) {
		log, err := remoteLog(conn, target)
		if err != nil {
			return nil
		}
		if own, err = log.Fetch(ctx, "checkpoint"); err != nil {
			return nil // verifying will say why
		}
	} else if text, err := os.ReadFile(filepath.Join(target, trail.VKeyFile)); err == nil {
		if v, err := note.NewVerifier(strings.TrimSpace(string(text))); err == nil {
			return list(remembered(v.Name()))
		}
	} else {
		isExport = true
		if own, err = lastCheckpoint(target); err != nil {
			return nil
		}
	}
	c, err := trail.ReadCheckpoint(own)
	if err != nil {
		return nil
	}
	known := remembered(c.Origin)
	if k, err := trail.ReadCheckpoint(known); err != nil || isExport && k.Size > c.Size {
		return nil
	}
	return list(known)
}

func list(checkpoint []byte) [][]byte {
	if checkpoint == nil {
		return nil
	}
	return [][]byte{checkpoint}
}

// lastCheckpoint returns the checkpoint in the last line of an export.
func lastCheckpoint(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	tail := make([]byte, min(info.Size(), 64<<10))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return nil, err
	}
	tail = bytes.TrimSpace(tail)
	_, t, err := trail.ParseLine(tail[bytes.LastIndexByte(tail, '\n')+1:])
	if err != nil || t == nil {
		return nil, errors.New("no checkpoint at the end")
	}
	return []byte(t.Checkpoint), nil
}

func printReport(cmd *cobra.Command, r *verify.Report, output string, quiet bool) error {
	out := cmd.OutOrStdout()
	failed := error(nil)
	if !r.OK() {
		failed = &exitCodeError{exitVerify, errSilent}
	}
	switch output {
	case "json", "yaml":
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		return errors.Join(printDocument(out, output, json.RawMessage(data)), failed)
	case "table":
	default:
		return usage("-o %s: one of table, json, yaml", output)
	}
	if quiet && r.OK() {
		return nil
	}
	fmt.Fprintf(out, "%s\n", printable(r.Target))
	if r.Origin != "" {
		fmt.Fprintf(out, "  ledger    %s\n  size      %d entries\n  root      %s\n", printable(r.Origin), r.Size, r.Root)
	}
	fmt.Fprintf(out, "  checked   %d entries, %d with details", r.Entries, r.Details)
	if r.Erased > 0 {
		fmt.Fprintf(out, ", %d erased", r.Erased)
	}
	fmt.Fprintln(out)
	for _, f := range r.Findings {
		at := ""
		if f.Index >= 0 {
			at = fmt.Sprintf("entry %d: ", f.Index)
		}
		where := ""
		if f.Where != "" {
			where = " (" + printable(f.Where) + ")"
		}
		fmt.Fprintf(out, "  WRONG     %s: %s%s%s\n", f.Kind, at, printable(f.Message), where)
	}
	if r.Omitted > 0 {
		fmt.Fprintf(out, "  WRONG     and %d findings more\n", r.Omitted)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(out, "  note      %s\n", printable(n))
	}
	for _, n := range r.Unproven {
		fmt.Fprintf(out, "  unproven  %s\n", printable(n))
	}
	switch {
	case !r.OK():
		fmt.Fprintf(out, "FAILED: %d findings\n", int64(len(r.Findings))+r.Omitted)
	case r.Authenticated:
		fmt.Fprintln(out, "GOOD: everything matches, and the signature is by the given key")
	default:
		fmt.Fprintln(out, "GOOD: self-consistent, key not authenticated (--key does that)")
	}
	return failed
}

// readKeys reads public keys, given as such or in files.
func readKeys(args []string) ([]note.Verifier, error) {
	var keys []note.Verifier
	for _, a := range args {
		text, err := textOrFile(a, "+")
		if err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		n := len(keys)
		for _, line := range strings.Fields(string(text)) {
			v, err := note.NewVerifier(line)
			if err != nil {
				return nil, fmt.Errorf("--key %.80q: %w", line, err)
			}
			keys = append(keys, v)
		}
		if len(keys) == n {
			return nil, fmt.Errorf("--key %.80q: no key there", a)
		}
	}
	return keys, nil
}

// textOrFile returns the content of the file called s or, if there is none and
// s contains mark, s itself.
func textOrFile(s, mark string) ([]byte, error) {
	f, err := os.Open(s)
	if err != nil {
		if strings.Contains(s, mark) {
			return []byte(s), nil
		}
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}
