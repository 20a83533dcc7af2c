package backup

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

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
func (p *position) manifest(origin, key string) *datadir.Manifest {
	m := &datadir.Manifest{V: datadir.ManifestVersion, Origin: origin, Key: key, Size: p.tree.Size(), Checkpoint: string(p.note),
		Segment: p.segment, Offset: p.offset, Chain: p.chain, Edge: []trail.Hash{}}
	for level := len(p.edge) - 1; level >= 0; level-- {
		if m.Size>>level&1 == 1 {
			m.Edge = append(m.Edge, p.edge[level])
		}
	}
	return m
}

// readManifest reads the manifest in dir, and the key in it. It returns nil
// where there is none.
func readManifest(dir string) (*datadir.Manifest, note.Verifier, error) {
	m, err := datadir.ReadManifest(dir)
	if m == nil {
		return nil, nil, err
	}
	key, err := checkManifest(m)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", filepath.Join(dir, datadir.BackupFile), err)
	}
	return m, key, nil
}

// checkManifest holds a manifest against its own checkpoint, and returns its
// key.
func checkManifest(m *datadir.Manifest) (_ note.Verifier, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("the manifest is damaged: %w", err)
		}
	}()
	key, err := trail.ParseKey(m.Key)
	if err == nil && key.Name() != m.Origin {
		err = errors.New("the key is that of another ledger")
	}
	if err != nil || m.Size == 0 {
		return key, err
	}
	c, err := trail.OpenCheckpoint([]byte(m.Checkpoint), key)
	if err != nil {
		return nil, err
	}
	if c.Size != m.Size {
		return nil, fmt.Errorf("it tells of %d entries, and its checkpoint of %d", m.Size, c.Size)
	}
	p, err := positionOf(m)
	if err != nil {
		return nil, err
	}
	if c.Root != p.tree.Root() || m.Offset < seglog.FirstOffset {
		return nil, errors.New("it does not agree with its checkpoint")
	}
	return key, nil
}

// positionOf returns where a backup ends.
func positionOf(m *datadir.Manifest) (position, error) {
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

func writeManifest(fs seglog.FS, dir string, m *datadir.Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return seglog.WriteFile(fs, filepath.Join(dir, datadir.BackupFile), append(data, '\n'))
}
