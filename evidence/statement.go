package evidence

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/graven-audit/graven/trail"
)

// Names of files in a package.
const (
	ManifestFile   = "manifest.json"      // the statement, to be read
	EnvelopeFile   = "manifest.dsse.json" // the statement, signed
	EventsFile     = "events.ndjson"      // an export of the events that match
	EntriesFile    = "proofs/entries.bin" // the entries of the span, as in C2SP tlog-tiles bundles
	SpanFile       = "proofs/span.json"
	CheckpointFile = "checkpoints/checkpoint"
	KeyFile        = "keys/ledger.vkey"
	PopulationFile = "population.csv"
)

// Types of statements.
const (
	StatementType = "https://in-toto.io/Statement/v1"
	PackageType   = "https://graven.dev/evidence/v1"
	RunType       = "https://graven.dev/evidence-run/v1"
	payloadType   = "application/vnd.in-toto+json"
)

// A Statement says something of files (in-toto Statement v1).
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// A Subject is a file.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"` // "sha256": hexadecimal
}

// Contents is the predicate of a package's statement.
type Contents struct {
	Ledger     Ledger `json:"ledger"`
	Filter     Filter `json:"filter"`
	Framework  string `json:"framework"`
	Events     int64  `json:"events"`     // that match, in EventsFile
	Lines      int64  `json:"lines"`      // of EventsFile: events, and tombstones beside them
	Population int64  `json:"population"` // lines of PopulationFile
	// Complete says that the span is there: without it the package does not show that
	// it has everything that matches.
	Complete bool  `json:"complete"`
	First    int64 `json:"first"` // of the span
	// ErasedBelow is the index below which entries were erased; 0 for none.
	ErasedBelow int64  `json:"erasedBelow"`
	Sample      int    `json:"sample,omitempty"`
	RandomSeed  uint64 `json:"randomSeed,omitempty"`
}

// A Ledger is the state that a package was made from.
type Ledger struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"` // base64
}

// A Run is the predicate of the statement beside a package: who made it, and when.
type Run struct {
	Principal string `json:"principal"`
	At        string `json:"at"` // RFC 3339, UTC
	Version   string `json:"version"`
	Question  string `json:"question"`
}

// NewStatement returns a statement about files.
func NewStatement(predicateType string, subjects []Subject, predicate any) (*Statement, error) {
	text, err := json.Marshal(predicate)
	if err != nil {
		return nil, fmt.Errorf("write statement: %w", err)
	}
	return &Statement{Type: StatementType, Subject: subjects, PredicateType: predicateType, Predicate: text}, nil
}

// Digest returns the subject that a file is, by its name and SHA-256.
func Digest(name string, sum [sha256.Size]byte) Subject {
	return Subject{Name: name, Digest: map[string]string{"sha256": hex.EncodeToString(sum[:])}}
}

// An Envelope is a signed payload (DSSE v1).
type Envelope struct {
	PayloadType string      `json:"payloadType"`
	Payload     string      `json:"payload"` // base64
	Signatures  []Signature `json:"signatures"`
}

// A Signature of an envelope. KeyID is the hexadecimal hash of a note's key.
type Signature struct {
	KeyID string `json:"keyid"`
	Sig   string `json:"sig"` // base64
}

// pae is DSSE's pre-authentication encoding.
func pae(payload []byte) []byte {
	text := "DSSEv1 " + strconv.Itoa(len(payloadType)) + " " + payloadType + " " + strconv.Itoa(len(payload)) + " "
	return append([]byte(text), payload...)
}

// Sign returns the statement as it is read, and in an envelope signed with an Ed25519 key.
func Sign(s *Statement, signer note.Signer) (plain, envelope []byte, err error) {
	if plain, err = json.MarshalIndent(s, "", "  "); err != nil {
		return nil, nil, fmt.Errorf("write statement: %w", err)
	}
	plain = append(plain, '\n')
	sig, err := signer.Sign(pae(plain))
	if err != nil {
		return nil, nil, fmt.Errorf("sign statement: %w", err)
	}
	e := Envelope{PayloadType: payloadType, Payload: base64.StdEncoding.EncodeToString(plain),
		Signatures: []Signature{{KeyID: fmt.Sprintf("%08x", signer.KeyHash()), Sig: base64.StdEncoding.EncodeToString(sig)}}}
	envelope, err = json.Marshal(e)
	return plain, append(envelope, '\n'), err
}

var errSignature = errors.New("no signature by the ledger's key")

// Open reads the statement of an envelope that the given key signed; with nil it is taken
// at its word. It returns the statement as it is read, too.
func Open(envelope []byte, key note.Verifier) (*Statement, []byte, error) {
	var e Envelope
	if err := strict(envelope, &e); err != nil {
		return nil, nil, fmt.Errorf("envelope: %w", err)
	}
	if e.PayloadType != payloadType {
		return nil, nil, fmt.Errorf("envelope: its payload is %q", e.PayloadType)
	}
	plain, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		return nil, nil, fmt.Errorf("envelope: payload: %w", err)
	}
	if key != nil {
		good := false
		for _, s := range e.Signatures {
			if sig, err := base64.StdEncoding.DecodeString(s.Sig); err == nil && key.Verify(pae(plain), sig) {
				good = true
			}
		}
		if !good {
			return nil, nil, errSignature
		}
	}
	var s Statement
	if err := strict(plain, &s); err != nil {
		return nil, nil, fmt.Errorf("statement: %w", err)
	}
	if s.Type != StatementType {
		return nil, nil, fmt.Errorf("statement: its type is %q", s.Type)
	}
	seen := map[string]bool{}
	for _, f := range s.Subject {
		if sum, err := hex.DecodeString(f.Digest["sha256"]); err != nil || len(sum) != sha256.Size {
			return nil, nil, fmt.Errorf("statement: %q has no SHA-256", f.Name)
		}
		if seen[f.Name] || f.Name == "" || strings.HasPrefix(f.Name, "/") || strings.Contains(f.Name, "..") || strings.Contains(f.Name, "\\") {
			return nil, nil, fmt.Errorf("statement: the file name %q", f.Name)
		}
		seen[f.Name] = true
	}
	return &s, plain, nil
}

// Contents reads the predicate of a package's statement.
func (s *Statement) Contents() (*Contents, error) {
	if s.PredicateType != PackageType {
		return nil, fmt.Errorf("statement: it is about %q, and not a package", s.PredicateType)
	}
	c := new(Contents)
	if err := strict(s.Predicate, c); err != nil {
		return nil, fmt.Errorf("statement: predicate: %w", err)
	}
	return c, nil
}

// Run reads the predicate of the statement beside a package.
func (s *Statement) Run() (*Run, error) {
	if s.PredicateType != RunType {
		return nil, fmt.Errorf("statement: it is about %q, and not who made a package", s.PredicateType)
	}
	r := new(Run)
	if err := strict(s.Predicate, r); err != nil {
		return nil, fmt.Errorf("statement: predicate: %w", err)
	}
	return r, nil
}

// strict reads JSON and refuses members that it does not know.
func strict(text []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if d.More() {
		return errors.New("something stands behind it")
	}
	return nil
}

// LedgerOf returns the state that a checkpoint speaks of.
func LedgerOf(c *trail.Checkpoint) Ledger {
	return Ledger{Origin: c.Origin, Size: c.Size, Root: c.Root.String()}
}
