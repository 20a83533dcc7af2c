package evidence

import (
	"archive/zip"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/evidence"
	"github.com/graven-audit/graven/internal/brief"
	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/control"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/internal/retention"
	"github.com/graven-audit/graven/internal/search"
	"github.com/graven-audit/graven/report"
	"github.com/graven-audit/graven/trail"
)

// MaxEntries bounds the entries that a package carries to show that it is complete.
// Beyond that it says that it does not show it.
const MaxEntries = 5_000_000

// MaxSample bounds the events that a sample draws.
const MaxSample = 1000

// made is the time of every file in a package, so that the same package has the same
// bytes.
var made = time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)

// A Question asks for a package.
type Question struct {
	compliance.Question
	// Sample is how many events are drawn, and Seed what decides which; 0 draws none.
	Sample int
	Seed   uint64
	// Slim leaves out the entries that show that the package is complete.
	Slim bool
}

// A Maker makes packages. All fields are required.
type Maker struct {
	Source *compliance.Source
	Hashes tlog.HashReader
	// Previous is the chain before an entry.
	Previous func(ctx context.Context, index int64) (trail.Hash, error)
	Book     *control.Book
	Tombs    func(ctx context.Context, size int64) (*retention.Book, error)
	Signer   note.Signer
	// Key is the public key, in text.
	Key string
	// Scratch is a directory for what waits in files; empty means [os.TempDir].
	Scratch string
}

// Made is what became of a question.
type Made struct {
	Contents evidence.Contents
	SHA256   [sha256.Size]byte // of the whole package
	Bytes    int64
}

// Make writes a package.
func (m *Maker) Make(ctx context.Context, w io.Writer, q *Question) (*Made, error) {
	sum := &counted{hash: sha256.New()}
	p := &packer{m: m, q: q, zip: zip.NewWriter(io.MultiWriter(w, sum))}
	if err := p.pack(ctx); err != nil {
		return nil, err
	}
	if err := p.zip.Close(); err != nil {
		return nil, fmt.Errorf("write package: %w", err)
	}
	done := &Made{Contents: p.contents, Bytes: sum.n}
	sum.hash.Sum(done.SHA256[:0])
	return done, nil
}

type counted struct {
	hash hash.Hash
	n    int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return c.hash.Write(p)
}

// A packer writes one package.
type packer struct {
	m *Maker
	q *Question

	zip        *zip.Writer
	subjects   []evidence.Subject
	checkpoint *trail.Checkpoint
	filter     evidence.Filter
	contents   evidence.Contents

	matched []int64 // indexes of the events that match
	late    [][]string
	days    map[string]*day
	gaps    [][]string
}

// add writes a file.
func (p *packer) add(name string, write func(io.Writer) error) error {
	f, err := p.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: made})
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	sum := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, sum), 64<<10)
	if err := write(buf); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	p.subjects = append(p.subjects, evidence.Digest(name, [sha256.Size]byte(sum.Sum(nil))))
	return nil
}

func (p *packer) addBytes(name string, text []byte, err error) error {
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return p.add(name, func(w io.Writer) error {
		_, err := w.Write(text)
		return err
	})
}

func (p *packer) addJSON(name string, v any) error {
	text, err := paper.Encode(v, "json")
	return p.addBytes(name, text, err)
}

func (p *packer) pack(ctx context.Context) error {
	q, source := p.q, p.m.Source
	p.days = map[string]*day{}
	p.filter = evidence.Filter{From: q.From, To: q.To, Namespace: q.Namespace, Namespaces: q.Scope}
	var err error
	// Signatures of this kind are functions of what is signed: it is the checkpoint of
	// that size, whenever it is signed.
	if p.checkpoint, err = trail.SignCheckpoint(source.Origin, source.Size, source.Root, p.m.Signer); err != nil {
		return err
	}
	p.contents = evidence.Contents{Ledger: evidence.LedgerOf(p.checkpoint), Filter: p.filter, Framework: q.Framework, Sample: q.Sample, RandomSeed: q.Seed}
	_, begin, err := source.Began(ctx)
	if err != nil {
		return err
	}
	if p.contents.ErasedBelow = begin; begin >= source.Size {
		p.contents.ErasedBelow = source.Size
	}
	if err := p.entries(ctx, begin); err != nil {
		return err
	}
	if err := p.events(ctx); err != nil {
		return err
	}
	controls, err := p.controls(ctx)
	if err != nil {
		return err
	}
	r, err := p.report(ctx)
	if err != nil {
		return err
	}
	if err := p.tables(); err != nil {
		return err
	}
	if err := p.findings(ctx); err != nil {
		return err
	}
	if err := p.sample(ctx); err != nil {
		return err
	}
	if err := p.addBytes(evidence.CheckpointFile, p.checkpoint.Note, nil); err != nil {
		return err
	}
	if err := p.addBytes(evidence.KeyFile, []byte(p.m.Key+"\n"), nil); err != nil {
		return err
	}
	if err := p.queries(); err != nil {
		return err
	}
	page, err := p.readme(r, controls).HTML()
	if err := p.addBytes("README.html", page, err); err != nil {
		return err
	}
	return p.sign()
}

// sign writes the statement about all other files.
func (p *packer) sign() error {
	s, err := evidence.NewStatement(evidence.PackageType, slices.Clone(p.subjects), p.contents)
	if err != nil {
		return err
	}
	plain, envelope, err := evidence.Sign(s, p.m.Signer)
	if err := p.addBytes(evidence.ManifestFile, plain, err); err != nil {
		return err
	}
	return p.addBytes(evidence.EnvelopeFile, envelope, nil)
}

// entries writes every entry of the span, unless there are too many, and takes note of
// those that match.
func (p *packer) entries(ctx context.Context, begin int64) error {
	first, err := p.m.Source.First(ctx, p.filter.From)
	if err != nil {
		return err
	}
	p.contents.First = first
	p.contents.Complete = !p.q.Slim && p.contents.Ledger.Size-first <= MaxEntries
	scan := func(w io.Writer) error {
		var buf []byte
		return p.m.Source.Scan(ctx, p.filter.From, func(r *trail.Record, b *brief.Event) error {
			buf = trail.AppendBundled(buf[:0], r.Entry)
			if _, err := w.Write(buf); err != nil {
				return err
			}
			return p.look(r, b)
		})
	}
	if !p.contents.Complete {
		return scan(io.Discard)
	}
	if err := p.add(evidence.EntriesFile, scan); err != nil {
		return err
	}
	span, err := evidence.NewSpan(p.m.Hashes, first, p.contents.Ledger.Size)
	if err != nil {
		return err
	}
	text, err := json.Marshal(span)
	return p.addBytes(evidence.SpanFile, text, err)
}

// look takes note of an entry that matches.
func (p *packer) look(r *trail.Record, b *brief.Event) error {
	at, err := brief.Time(b.Timestamp)
	if err != nil {
		return fmt.Errorf("entry %d: %w", r.Index, err)
	}
	if at.Before(p.filter.From) || !at.Before(p.filter.To) {
		return nil
	}
	e := &event.Event{EventType: string(b.EventType), Timestamp: at, Resource: event.Resource{Namespace: string(b.Namespace)}}
	if err := p.reconcile(r, b, at); err != nil {
		return err
	}
	if !p.filter.Match(e) {
		return nil
	}
	p.matched = append(p.matched, r.Index)
	if recorded, err := brief.Time(b.RecordedAt); err == nil && recorded.Sub(at) > report.Late {
		p.late = append(p.late, []string{strconv.FormatInt(r.Index, 10), string(b.ID), string(b.EventType), string(b.Timestamp), string(b.RecordedAt), recorded.Sub(at).Round(time.Second).String()})
	}
	return nil
}

// events writes the events that match, as a filtered export.
func (p *packer) events(ctx context.Context) error {
	return p.add(evidence.EventsFile, func(w io.Writer) error {
		l := &lines{p: p, w: w, last: -2}
		for _, index := range p.matched {
			if err := l.event(ctx, index); err != nil {
				return err
			}
		}
		if err := l.settle(ctx, math.MaxInt64); err != nil {
			return err
		}
		p.contents.Events, p.contents.Lines = int64(len(p.matched)), l.count
		t := trail.Trailer{Checkpoint: string(p.checkpoint.Note), Filter: p.parameters(), Count: l.count}
		return json.NewEncoder(w).Encode(t)
	})
}

// parameters are the filter, as those of an export.
func (p *packer) parameters() map[string]string {
	f := map[string]string{"from": event.FormatTime(p.filter.From), "to": event.FormatTime(p.filter.To.Add(-1)), "access": "false"}
	if p.filter.Namespace != "" {
		f["namespace"] = p.filter.Namespace
	}
	return f
}

// lines writes the lines of an export.
type lines struct {
	p     *packer
	w     io.Writer
	owed  *retention.Owed
	buf   []byte
	last  int64
	chain trail.Hash
	count int64
}

func (l *lines) event(ctx context.Context, index int64) error {
	h, err := l.p.m.Source.Find.Get(ctx, index)
	if err == nil {
		err = l.settle(ctx, index)
	}
	if err != nil {
		return err
	}
	return l.put(ctx, h)
}

// settle writes the tombstones before an index that lines without content need.
func (l *lines) settle(ctx context.Context, before int64) error {
	for {
		index, ok := l.owed.Next(before)
		if !ok {
			return nil
		}
		h, err := l.p.m.Source.Find.Get(ctx, index)
		if err == nil {
			err = l.put(ctx, h)
		}
		if err != nil {
			return err
		}
	}
}

func (l *lines) put(ctx context.Context, h search.Hit) error {
	m, index := l.p.m, h.Record.Index
	if h.Record.Erasable == nil {
		if l.owed == nil {
			book, err := m.Tombs(ctx, l.p.checkpoint.Size)
			if err != nil {
				return err
			}
			l.owed = retention.NewOwed(book, l.p.checkpoint.Size, l.p.filter.Namespaces == nil)
		}
		if !l.owed.Need(index) {
			return fmt.Errorf("entry %d: its content is being erased, ask again", index)
		}
	}
	previous := l.chain
	if index != l.last+1 || l.count == 0 {
		var err error
		if previous, err = m.Previous(ctx, index); err != nil {
			return err
		}
	}
	l.last, l.chain = index, h.Record.Chain
	proof, err := search.Prove(m.Hashes, l.p.checkpoint, index, h.Record.LeafHash())
	if err != nil {
		return err
	}
	line := trail.Line{Event: h.Event, Record: h.Record, Previous: previous, Proof: append(tlog.RecordProof{}, proof...)}
	l.buf = line.Append(l.buf[:0])
	l.count++
	_, err = l.w.Write(l.buf)
	return err
}

// sample draws events from all that match, by the seed alone.
func (p *packer) sample(ctx context.Context) error {
	if p.q.Sample == 0 {
		return nil
	}
	var seed [32]byte
	copy(seed[:], strconv.FormatUint(p.q.Seed, 10))
	r := rand.New(rand.NewChaCha8(seed))
	drawn := r.Perm(len(p.matched))[:min(p.q.Sample, len(p.matched))]
	slices.Sort(drawn)
	rows := [][]string{{"n", "index", "id", "timestamp", "type", "actor", "resource", "outcome", "permalink", "proof"}}
	for n, i := range drawn {
		h, err := p.m.Source.Find.Get(ctx, p.matched[i])
		if err != nil {
			return err
		}
		e, name := h.Event, fmt.Sprintf("proofs/sample/%d.tlog-proof", h.Record.Index)
		hashes, err := search.Prove(p.m.Hashes, p.checkpoint, h.Record.Index, h.Record.LeafHash())
		if err != nil {
			return err
		}
		proof := trail.Proof{Index: h.Record.Index, Hashes: hashes, Checkpoint: p.checkpoint.Note}
		if err := p.addBytes(name, proof.Marshal(), nil); err != nil {
			return err
		}
		rows = append(rows, []string{strconv.Itoa(n + 1), strconv.FormatInt(h.Record.Index, 10), e.ID.String(), event.FormatTime(e.Timestamp), e.EventType,
			e.Actor.Type + "/" + e.Actor.Name, e.Resource.Kind + "/" + e.Resource.Namespace + "/" + e.Resource.Name, e.Outcome, "/api/v1/audit/events/" + e.ID.String(), name})
	}
	return p.addBytes("sample.csv", paper.CSV(rows), nil)
}
