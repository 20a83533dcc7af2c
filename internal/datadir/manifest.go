package datadir

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
)

// ManifestVersion is that of the manifests that this version knows.
const ManifestVersion = 1

// A Manifest says how far a backup is good. It is the content of [BackupFile].
type Manifest struct {
	V      int    `json:"v"`
	Origin string `json:"origin"`
	Key    string `json:"key"` // public
	// Size is the number of entries. What follows is absent for none.
	Size       int64     `json:"size"`
	Checkpoint string    `json:"checkpoint,omitempty"`
	Segment    uint64    `json:"segment"`
	Offset     int64     `json:"offset"` // in the segment, behind the checkpoint
	Chain      tlog.Hash `json:"chain"`
	// Edge holds the hashes of the complete subtrees of which the tree is made,
	// the largest first.
	Edge []tlog.Hash `json:"edge"`
}

// ErrUnfinished means that a backup was begun and never got so far that
// anything in it is good. Nobody is to blame for what it holds.
var ErrUnfinished = errors.New("the backup was never finished, so that nothing in it counts yet: run graven backup again")

// ErrManifest means that a file is no manifest, or was damaged.
var ErrManifest = errors.New("not the manifest of a backup")

// ReadManifest reads the manifest in dir. It returns nil where there is none.
func ReadManifest(dir string) (*Manifest, error) {
	path := filepath.Join(dir, BackupFile)
	data, err := readUpTo(path, maxSmall)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// ParseManifest reads a manifest. Whether it agrees with itself is for others
// to say. Its error is [ErrNewer] or [ErrManifest].
func ParseManifest(data []byte) (*Manifest, error) {
	var head struct{ V int }
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if head.V > ManifestVersion {
		return nil, Newer("the backup is", head.V, ManifestVersion)
	}
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || m.V != ManifestVersion || m.Size < 0 || m.Offset < 0 {
		return nil, ErrManifest
	}
	return &m, nil
}
