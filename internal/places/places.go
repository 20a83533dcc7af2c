// Package places knows where records stand in a log.
package places

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"sync"

	"github.com/graven-audit/graven/internal/openfile"
	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// Dir is the directory that holds, for each segment but the active one, where its
// records stand: one little-endian uint32 each.
const Dir = "offsets"

// Places knows where records stand in a log. The offsets of the active segment
// are in memory, those of the others in files that are made when first needed.
// Its methods may be called concurrently, but for [Places.Reopened].
type Places struct {
	log *seglog.Log
	dir string

	mu     sync.RWMutex
	base   int64 // of the active segment; -1 for none
	active []uint32

	making  sync.Mutex // held while a file is made
	renewed map[uint64]bool

	files *openfile.Cache[*os.File]
}

// maxFiles bounds the files that are open, but for those in use.
const maxFiles = 64

// New returns the places of a log's records, in a directory that is there.
func New(log *seglog.Log, dir string) *Places {
	p := &Places{log: log, dir: dir, base: -1, renewed: map[uint64]bool{}}
	p.files = openfile.New(maxFiles, func(base uint64) (*os.File, error) { return os.Open(p.path(base)) })
	return p
}

// Roll tells of a new active segment.
func (p *Places) Roll(base int64) {
	p.mu.Lock()
	old, offsets := p.base, p.active
	p.base, p.active = base, nil
	p.mu.Unlock()
	if old >= 0 {
		p.making.Lock()
		defer p.making.Unlock()
		// If this fails, the file is made when it is needed.
		_ = p.write(old, offsets)
	}
}

// Forget drops the active segment.
func (p *Places) Forget() {
	p.mu.Lock()
	p.base, p.active = -1, nil
	p.mu.Unlock()
}

// Add tells where the next record of the active segment stands.
func (p *Places) Add(offset int64) {
	p.mu.Lock()
	p.active = append(p.active, uint32(offset))
	p.mu.Unlock()
}

// Find returns the segment of a record, and where in it it stands.
func (p *Places) Find(index int64) (base uint64, offset int64, err error) {
	p.mu.RLock()
	if p.base >= 0 && index >= p.base {
		defer p.mu.RUnlock()
		if i := index - p.base; i < int64(len(p.active)) {
			return uint64(p.base), int64(p.active[i]), nil
		}
		return 0, 0, errors.New("no such record")
	}
	p.mu.RUnlock()
	bases := p.log.Segments()
	i := sort.Search(len(bases), func(i int) bool { return bases[i] > uint64(index) })
	if i == 0 || index < 0 {
		return 0, 0, errors.New("no such record")
	}
	base = bases[i-1]
	offset, err = p.read(base, index-int64(base))
	return base, offset, err
}

func (p *Places) path(base uint64) string { return filepath.Join(p.dir, fmt.Sprintf("%020d", base)) }

// Claimed returns of how many records at least the files tell.
func (p *Places) Claimed() (claimed int64, err error) {
	found, err := os.ReadDir(p.dir)
	if err != nil {
		return 0, err
	}
	for _, f := range found {
		base, ok := seglog.SegmentBase(f.Name() + ".seg")
		if !ok {
			continue
		}
		info, err := f.Info()
		if err != nil {
			return 0, err
		}
		claimed = max(claimed, int64(base)+info.Size()/4)
	}
	return claimed, nil
}

func (p *Places) read(base uint64, i int64) (int64, error) {
	offset, err := p.peek(base, i)
	if err == nil || openfile.TooMany(err) {
		return offset, err
	}
	p.making.Lock()
	defer p.making.Unlock()
	if offset, err = p.peek(base, i); err == nil {
		return offset, nil
	}
	if err := p.make(base); err != nil {
		return 0, err
	}
	return p.peek(base, i)
}

// Renew makes the offsets of a segment anew, once, and reports whether they may
// be others now. Those of a segment that is damaged stay as they are.
func (p *Places) Renew(base uint64) bool {
	p.mu.RLock()
	active := p.base >= 0 && base == uint64(p.base)
	p.mu.RUnlock()
	if active {
		return false
	}
	p.making.Lock()
	defer p.making.Unlock()
	if p.renewed[base] {
		return true // for somebody else, perhaps meanwhile
	}
	p.renewed[base] = true
	return p.make(base) == nil
}

// Move has the records of a segment moved, and forgets where they stood. Who
// looks there meanwhile finds another record, or none, and waits.
func (p *Places) Move(base uint64, move func() error) error {
	p.making.Lock()
	defer p.making.Unlock()
	if err := move(); err != nil {
		return err
	}
	delete(p.renewed, base)
	p.files.Forget(base)
	if err := os.Remove(p.path(base)); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (p *Places) peek(base uint64, i int64) (int64, error) {
	f, err := p.files.Use(base)
	if err != nil {
		return 0, err
	}
	defer f.Release()
	var b [4]byte
	if _, err := f.F.ReadAt(b[:], 4*i); err != nil {
		return 0, err
	}
	offset := int64(binary.LittleEndian.Uint32(b[:]))
	if offset < seglog.FirstOffset { // zeros, which a power cut may leave
		return 0, fmt.Errorf("%s holds no offset", p.path(base))
	}
	return offset, nil
}

// make derives the offsets of a segment from the segment.
func (p *Places) make(base uint64) error {
	r, err := p.log.Reader(base, seglog.FirstOffset)
	if err != nil {
		return err
	}
	var offsets []uint32
	buf := make([]byte, 1<<20)
	for {
		frames, err := r.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		for _, f := range frames {
			if trail.IsRecord(f.Body) {
				offsets = append(offsets, uint32(f.Offset))
			}
		}
	}
	return p.write(int64(base), offsets)
}

func (p *Places) write(base int64, offsets []uint32) error {
	data := make([]byte, 0, 4*len(offsets))
	for _, o := range offsets {
		data = binary.LittleEndian.AppendUint32(data, o)
	}
	path := p.path(uint64(base))
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	p.files.Forget(uint64(base)) // what was there before
	return nil
}

// Reopened has the places be those of the log that was opened anew. Nobody may use
// them meanwhile.
func (p *Places) Reopened(log *seglog.Log) { p.log = log }

// Close closes the files.
func (p *Places) Close() error { return p.files.Close() }
