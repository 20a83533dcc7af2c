package verify

import (
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/graven-audit/graven/internal/seglog"
	"github.com/graven-audit/graven/trail"
)

// sector is the least that a disk writes at once.
const sector = 512

// A stretch is bytes of a file with fewer than 512 zeros in a row, and none
// at its ends.
type stretch struct {
	from, to int64
	data     int64 // bytes that are not zero
	last     byte
}

// written reports whether s looks like a part of frames, which are dense,
// rather than like zeros of which some were changed. The end of a checkpoint,
// which ends in a newline, may be alone in its sector.
func (s stretch) written() bool {
	n := s.to - s.from
	return n >= 8 && 2*s.data >= n || s.from%sector == 0 && s.data == n && s.last == '\n'
}

// stretches calls fn for each stretch of f within from and to, until it
// returns false.
func stretches(f *os.File, from, to int64, fn func(stretch) bool) error {
	buf := make([]byte, max(min(to-from, bufferSize), 1))
	var s stretch
	for at := from; at < to; {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), to-at)], at)
		for i, c := range buf[:n] {
			if c == 0 {
				continue
			}
			here := at + int64(i)
			if s.data > 0 && here-s.to >= sector {
				if !fn(s) {
					return nil
				}
				s = stretch{}
			}
			if s.data == 0 {
				s.from = here
			}
			s.to, s.last = here+1, c
			s.data++
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if s.data > 0 {
		fn(s)
	}
	return nil
}

// firstData returns where the first byte of f within from and to stands that
// is not zero, or -1.
func firstData(f *os.File, from, to int64) (int64, error) {
	at := int64(-1)
	err := stretches(f, from, to, func(s stretch) bool {
		at = s.from
		return false
	})
	return at, err
}

// remains is what stands where no frame does.
type remains struct {
	to int64 // behind the last byte that is not zero
	// written: it looks as if a writer had been interrupted here. The
	// opposite is that someone changed a few of the zeros.
	written bool
	// cut: a frame begins here and goes on behind the end of the file.
	cut bool
}

// examine looks at what stands in f within from and to, where entry next, or
// a checkpoint, should be next.
func examine(f *os.File, from, to, next int64) (remains, error) {
	r := remains{to: from, written: true}
	frame := from // up to here, zeros may be part of a frame
	head := make([]byte, 4+4+1+8)
	if _, err := f.ReadAt(head, from); err == nil && from+int64(len(head)) <= to {
		length := int64(binary.LittleEndian.Uint32(head))
		begun := head[8] == trail.FrameCheckpoint || head[8] == trail.FrameRecord && int64(binary.LittleEndian.Uint64(head[9:])) == next
		if begun && 0 < length && length <= seglog.MaxBody {
			r.cut = from+8+length > to
			frame = min(from+8+length, to)
		}
	}
	err := stretches(f, from, to, func(s stretch) bool {
		r.written = r.written && (s.from < frame || s.written())
		r.to = s.to
		return true
	})
	return r, err
}

// hasZeroSector reports whether a sector of f within from and to is all zeros.
func hasZeroSector(f *os.File, from, to int64) (bool, error) {
	end := from // of the data before
	has := false
	gap := func(until int64) {
		first := (end + sector - 1) / sector * sector
		has = has || first+sector <= until
	}
	err := stretches(f, from, to, func(s stretch) bool {
		gap(s.from)
		end = s.to
		return !has
	})
	gap(to)
	return has, err
}
