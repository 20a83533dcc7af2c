package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/trail"
)

// maxStatement bounds the files of a package that are read whole, in bytes.
const maxStatement = 64 << 20

// evidence checks an evidence package: the signed statement, every file that it names,
// the events and, where it has them, the entries that show that none is missing.
func (v *verifier) evidence(path string) error {
	z, err := zip.OpenReader(path)
	if err != nil {
		return err
	}
	defer z.Close()
	p := &parcel{v: v, files: map[string]*zip.File{}}
	for _, f := range z.File {
		if p.files[f.Name] != nil {
			v.found("%s stands twice in the package", f.Name)
		}
		p.files[f.Name] = f
	}
	if v.key == nil {
		text, err := p.read(evidence.KeyFile)
		if err == nil {
			err = v.setKey(text)
		}
		if err != nil {
			v.found("%s: %v", evidence.KeyFile, err)
			return nil
		}
	}
	if err := p.statement(); err != nil {
		v.found("%s: %v", evidence.EnvelopeFile, err)
		return nil
	}
	p.digests()
	if v.wrong > 0 {
		return nil // what a changed file says is of no use
	}
	if err := p.events(); err != nil {
		return err
	}
	p.agree()
	if p.contents.Complete {
		p.complete()
	}
	p.count(evidence.PopulationFile, p.contents.Population)
	if err := p.run(path); err != nil {
		v.found("%s%s: %v", path, runSuffix, err)
	}
	v.parcel = p
	return nil
}

// A parcel is a package that is being checked.
type parcel struct {
	v        *verifier
	files    map[string]*zip.File
	subjects []evidence.Subject
	contents *evidence.Contents
	lines    []int64       // indexes of the lines of the events, rising
	made     *evidence.Run // nil if nothing beside it tells
}

func (p *parcel) read(name string) ([]byte, error) {
	f := p.files[name]
	if f == nil {
		return nil, errors.New("it is not in the package")
	}
	r, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxStatement+1))
	if len(text) > maxStatement {
		return nil, fmt.Errorf("more than %d bytes", maxStatement)
	}
	return text, err
}

func (p *parcel) statement() error {
	envelope, err := p.read(evidence.EnvelopeFile)
	if err != nil {
		return err
	}
	s, plain, err := evidence.Open(envelope, p.v.key)
	if err != nil {
		return err
	}
	if p.contents, err = s.Contents(); err != nil {
		return err
	}
	p.subjects = s.Subject
	if text, err := p.read(evidence.ManifestFile); err != nil || !bytes.Equal(text, plain) {
		p.v.found("%s is not what was signed", evidence.ManifestFile)
	}
	return nil
}

// digests holds every file against the statement, and the statement against the files.
func (p *parcel) digests() {
	named := map[string]bool{evidence.ManifestFile: true, evidence.EnvelopeFile: true}
	for _, s := range p.subjects {
		named[s.Name] = true
		f := p.files[s.Name]
		if f == nil {
			p.v.found("%s is missing", s.Name)
			continue
		}
		sum, err := digest(f)
		switch {
		case err != nil:
			p.v.found("%s: %v", s.Name, err)
		case sum != s.Digest["sha256"]:
			p.v.found("%s was changed: its SHA-256 is %s, signed was %s", s.Name, sum, s.Digest["sha256"])
		}
	}
	for name := range p.files {
		if !named[name] {
			p.v.found("%s is not named in what was signed", name)
		}
	}
}

func digest(f *zip.File) (string, error) {
	r, err := f.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// events checks the events as the filtered export that they are, from a file of its own.
func (p *parcel) events() error {
	dir, err := os.MkdirTemp("", "graven-verify-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	f := p.files[evidence.EventsFile]
	if f == nil {
		p.v.found("%s is missing", evidence.EventsFile)
		return nil
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	path := dir + "/events.ndjson"
	w, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	if err := p.v.export(path); err != nil {
		return err
	}
	return p.index(path)
}

// index takes note of the entries that the lines of the events are of, and holds each
// against the filter.
func (p *parcel) index(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	lines.Split(splitLines)
	var matched int64
	for n := 1; lines.Scan(); n++ {
		l, t, err := trail.ParseLine(lines.Bytes())
		if err != nil || t != nil {
			break // which was found, or is the end
		}
		switch {
		case p.contents.Filter.Match(l.Event):
			matched++
			p.lines = append(p.lines, l.Record.Index)
		case !isTombstone(l.Event):
			p.v.found("%s, line %d: entry %d is not what was asked for", evidence.EventsFile, n, l.Record.Index)
		}
	}
	if matched != p.contents.Events {
		p.v.found("%s has %d events that match, signed were %d", evidence.EventsFile, matched, p.contents.Events)
	}
	return lines.Err()
}

func isTombstone(e *event.Event) bool {
	return e.EventType == "RetentionRun" || e.EventType == "ContentErased"
}

// agree holds the checkpoints of the package against each other.
func (p *parcel) agree() {
	text, err := p.read(evidence.CheckpointFile)
	var c *trail.Checkpoint
	if err == nil {
		c, err = p.v.open(text)
	}
	if err != nil {
		p.v.found("%s: %v", evidence.CheckpointFile, err)
		return
	}
	l := evidence.LedgerOf(c)
	if l != p.contents.Ledger || p.v.checkpoint == nil || l != evidence.LedgerOf(p.v.checkpoint) {
		p.v.found("%s, %s and the statement speak of different states of the ledger", evidence.CheckpointFile, evidence.EventsFile)
	}
}

// complete shows that no event is missing: the entries of the span give the checkpoint's
// root, and those that match are those that are here.
func (p *parcel) complete() {
	text, err := p.read(evidence.SpanFile)
	var span *evidence.Span
	if err == nil {
		span, err = evidence.ParseSpan(text)
	}
	if err != nil {
		p.v.found("%s: %v", evidence.SpanFile, err)
		return
	}
	if span.First != p.contents.First || span.Size != p.contents.Ledger.Size {
		p.v.found("%s is about entries %d to %d, the statement about %d to %d", evidence.SpanFile, span.First, span.Size-1, p.contents.First, p.contents.Ledger.Size-1)
		return
	}
	f := p.files[evidence.EntriesFile]
	if f == nil {
		p.v.found("%s is missing", evidence.EntriesFile)
		return
	}
	r, err := f.Open()
	if err != nil {
		p.v.found("%s: %v", evidence.EntriesFile, err)
		return
	}
	defer r.Close()
	var left int64
	root, err := span.Root(bufio.NewReaderSize(r, 64<<10), func(index int64, entry []byte) error {
		e, _, err := event.ParseEntry(entry)
		if err != nil {
			return fmt.Errorf("entry %d: %w", index, err)
		}
		_, here := slices.BinarySearch(p.lines, index)
		if p.contents.Filter.Match(e) && !here {
			p.v.found("entry %d (%s) matches what was asked for, and is not in %s", index, e.EventType, evidence.EventsFile)
			left++
		}
		return nil
	})
	switch {
	case err != nil:
		p.v.found("%s: %v", evidence.EntriesFile, err)
	case root.String() != p.contents.Ledger.Root:
		p.v.found("%s are not the entries that the checkpoint was signed for", evidence.EntriesFile)
	}
}

// count holds the lines of a table against the statement.
func (p *parcel) count(name string, want int64) {
	f := p.files[name]
	if f == nil {
		p.v.found("%s is missing", name)
		return
	}
	r, err := f.Open()
	if err != nil {
		p.v.found("%s: %v", name, err)
		return
	}
	defer r.Close()
	var n int64
	inside := false // quotes
	in := bufio.NewReader(r)
	for {
		b, err := in.ReadByte()
		if err != nil {
			break
		}
		switch {
		case b == '"':
			inside = !inside
		case b == '\n' && !inside:
			n++
		}
	}
	if n != want {
		p.v.found("%s has %d lines, signed were %d", name, n, want)
	}
}

// runSuffix is what the name of the statement beside a package ends with.
const runSuffix = ".run.json"

// run checks the statement of who made the package, if it stands beside it.
func (p *parcel) run(path string) error {
	text, err := readSmall(path + runSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	s, _, err := evidence.Open(text, p.v.key)
	if err != nil {
		return err
	}
	run, err := s.Run()
	if err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if len(s.Subject) != 1 || s.Subject[0].Digest["sha256"] != hex.EncodeToString(h.Sum(nil)) {
		return errors.New("it is about another package")
	}
	p.made = run
	return nil
}

// good says what the package shows, and what it does not.
func (p *parcel) good() {
	c, out := p.contents, p.v.out
	fmt.Fprintf(out, "GOOD: %d files as they were signed, %d events, each with its proof, under a checkpoint of %d entries of %s\n", len(p.subjects), c.Events, c.Ledger.Size, printable(c.Ledger.Origin))
	if p.made != nil {
		fmt.Fprintf(out, "made by %s at %s\n", printable(p.made.Principal), printable(p.made.At))
	} else {
		fmt.Fprintln(out, "unproven: who made it and when; FILE.zip.run.json is not beside it")
	}
	where := ""
	if c.Filter.Namespace != "" {
		where = " in namespace " + printable(c.Filter.Namespace)
	}
	if c.Filter.Namespaces != nil {
		where += " in the namespaces that whoever made it may see: " + printable(strings.Join(c.Filter.Namespaces, ", "))
	}
	period := event.FormatTime(c.Filter.From) + " to " + event.FormatTime(c.Filter.To) + where
	if c.Complete {
		fmt.Fprintf(out, "complete: of entries %d to %d every event from %s is here\n", c.First, c.Ledger.Size-1, period)
		if c.First > 0 {
			fmt.Fprintf(out, "unproven: that no entry before %d is from then; they were recorded more than two hours earlier, and no event may be dated more than an hour ahead\n", c.First)
		}
	} else {
		fmt.Fprintf(out, "unproven: filter completeness not proven: the package does not show that it has every event from %s\n", period)
	}
	if c.ErasedBelow > 0 {
		fmt.Fprintf(out, "unproven: entries below %d were erased; what they told is not here\n", c.ErasedBelow)
	}
	fmt.Fprintln(out, "unproven: that the sources told everything that happened (reconciliation.csv, gaps.csv), and that what they told is true")
	fmt.Fprintln(out, "unproven: that the reports follow from the events; 'graven report --checkpoint' computes them again, and queries.json says how")
	p.v.unproven(false)
}
