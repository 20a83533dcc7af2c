package backup

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// version is that of manifests.
const version = 1

// A manifest says how far a backup is good.
type manifest struct {
	V      int    `json:"v"`
	Origin string `json:"origin"`
	Key    string `json:"key"` // public
	// Size is the number of entries. What follows is absent for none.
	Size       int64      `json:"size"`
	Checkpoint string     `json:"checkpoint,omitempty"`
	Segment    uint64     `json:"segment"`
	Offset     int64      `json:"offset"` // in the segment, behind the checkpoint
	Chain      trail.Hash `json:"chain"`
	// Edge holds the hashes of the complete subtrees of which the tree is made,
	// the largest first.
	Edge []trail.Hash `json:"edge"`
}

// A position is a place in a ledger's log, behind a checkpoint or at its very
// beginning.
type position struct {
	tree    trail.Tree
	edge    [63]trail.Hash // the last complete subtree of each level
	chain   trail.Hash
	segment uint64
	offset  int64
	note    []byte // the checkpoint; nil at the beginning
}

func (p *position) append(leaf trail.Hash) {
	p.tree.Append(leaf, func(level int, _ int64, h trail.Hash) { p.edge[level] = h })
}

// manifest returns the manifest of a backup that ends there.
func (p *position) manifest(origin, key string) *manifest {
	m := &manifest{V: version, Origin: origin, Key: key, Size: p.tree.Size(), Checkpoint: string(p.note),
		Segment: p.segment, Offset: p.offset, Chain: p.chain, Edge: []trail.Hash{}}
	for level := len(p.edge) - 1; level >= 0; level-- {
		if m.Size>>level&1 == 1 {
			m.Edge = append(m.Edge, p.edge[level])
		}
	}
	return m
}

// errNone means that a directory holds no backup.
var errNone = errors.New("no backup")

// readManifest reads the manifest in dir, and the key in it.
func readManifest(dir string) (*manifest, note.Verifier, error) {
	path := filepath.Join(dir, datadir.BackupFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errNone
	}
	if err != nil {
		return nil, nil, err
	}
	m, key, err := parseManifest(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, key, nil
}

// parseManifest reads a manifest, and checks it against its own checkpoint.
func parseManifest(data []byte) (*manifest, note.Verifier, error) {
	var head struct{ V int }
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, nil, fmt.Errorf("not the manifest of a backup: %w", err)
	}
	if head.V > version {
		return nil, nil, datadir.Newer("the backup is", head.V, version)
	}
	var m manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, nil, fmt.Errorf("not the manifest of a backup: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || m.V != version || m.Size < 0 || m.Offset < 0 {
		return nil, nil, errors.New("not the manifest of a backup")
	}
	key, err := trail.ParseKey(m.Key)
	if err == nil && key.Name() != m.Origin {
		err = errors.New("the key is that of another ledger")
	}
	if err == nil && m.Size > 0 {
		err = m.check(key)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the manifest is damaged: %w", err)
	}
	return &m, key, nil
}

func (m *manifest) check(key note.Verifier) error {
	c, err := trail.OpenCheckpoint([]byte(m.Checkpoint), key)
	if err != nil {
		return err
	}
	p, err := m.position()
	if err != nil {
		return err
	}
	if c.Size != m.Size || c.Root != p.tree.Root() || m.Offset < seglog.FirstOffset {
		return errors.New("it does not agree with its checkpoint")
	}
	return nil
}

// position returns where a backup ends.
func (m *manifest) position() (position, error) {
	p := position{chain: m.Chain, segment: m.Segment, offset: m.Offset}
	if m.Size == 0 {
		return position{}, nil
	}
	p.note = []byte(m.Checkpoint)
	edge := m.Edge
	for level := len(p.edge) - 1; level >= 0; level-- {
		if m.Size>>level&1 == 0 {
			continue
		}
		if len(edge) == 0 {
			return p, errors.New("the edge of the tree is too short")
		}
		p.edge[level], edge = edge[0], edge[1:]
	}
	if len(edge) > 0 {
		return p, errors.New("the edge of the tree is too long")
	}
	tree, err := trail.ResumeTree(m.Size, tlog.HashReaderFunc(func(indexes []int64) ([]trail.Hash, error) {
		out := make([]trail.Hash, len(indexes))
		for i, x := range indexes {
			level, _ := tlog.SplitStoredHashIndex(x)
			out[i] = p.edge[level]
		}
		return out, nil
	}))
	if err != nil {
		return p, err
	}
	p.tree = *tree
	return p, nil
}

func (m *manifest) write(fs seglog.FS, dir string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return seglog.WriteFile(fs, filepath.Join(dir, datadir.BackupFile), append(data, '\n'))
}
