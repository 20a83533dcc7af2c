package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// A manifest is what a backup says of how far it is good.
type manifest struct {
	V          int
	Size       int64
	Checkpoint string
	Segment    uint64 // base of the last segment
	Offset     int64  // behind the checkpoint in it
}

// readManifest reads a backup's manifest, nil where there is none.
func (v *verifier) readManifest(dir string) (*manifest, error) {
	text, err := readSmall(filepath.Join(dir, "backup.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	m := new(manifest)
	switch {
	case err != nil:
		return nil, err
	case json.Unmarshal(text, m) != nil || m.V < 1 || m.Size < 0 || m.Offset < 0:
		v.found("backup.json is no manifest of a backup, or was changed")
		return nil, nil
	case m.V > 1:
		return nil, fmt.Errorf("the backup is of format %d, and this version knows format 1: it was written by a newer Graven; use the graven-verify of that version", m.V)
	case m.Size == 0:
		return nil, errUnfinished
	}
	return m, nil
}

var errUnfinished = errors.New("the backup was never finished, so that nothing in it counts yet: run graven backup again")

// cut leaves out the segments behind the end of a backup.
func (v *verifier) cut(segments []string) []string {
	m := v.manifest
	if m == nil {
		return segments
	}
	v.expect([]byte(m.Checkpoint), "backup.json")
	behind := int64(0)
	kept := slices.DeleteFunc(segments, func(path string) bool {
		base, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".seg"), 10, 64)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || base < m.Segment {
			return false
		}
		if base == m.Segment {
			behind += max(info.Size()-m.Offset, 0)
		} else {
			behind += info.Size()
		}
		return base > m.Segment
	})
	if behind > 0 {
		fmt.Fprintf(v.out, "note: the backup holds %d entries, as backup.json says; behind them stand %d bytes of a run that was interrupted, which do not count: run graven backup again\n", m.Size, behind)
	}
	return kept
}
