package spool

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"

	"github.com/graven-audit/graven/internal/seglog"
)

// A cursor is a number in a file, which never goes back. The file has two
// slots, written in turn, so that one is whole whatever happens:
//
//	number as uint64, CRC-32C of it
type cursor struct {
	file  seglog.File
	slot  int64
	value uint64
}

const (
	slots    = 2
	slotSize = 512 // a sector, which a torn write cannot tear the other of
	slotData = 8 + 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func openCursor(fs seglog.FS, path string) (*cursor, error) {
	f, err := fs.Open(path, os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	// It has its room from the beginning: a full disk must not keep a spool from
	// getting empty.
	size, err := f.Size()
	if err == nil && size < slots*slotSize {
		_, err = f.WriteAt(make([]byte, slots*slotSize-size), size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c := &cursor{file: f}
	for slot := range int64(slots) {
		var data [slotData]byte
		if _, err := f.ReadAt(data[:], slot*slotSize); err != nil && !errors.Is(err, io.EOF) {
			return nil, errors.Join(err, f.Close())
		}
		n := binary.LittleEndian.Uint64(data[:])
		if binary.LittleEndian.Uint32(data[8:]) == crc32.Checksum(data[:8], castagnoli) && n >= c.value {
			c.value, c.slot = n, 1-slot
		}
	}
	return c, nil
}

// set moves the cursor. It outlives the process at once.
func (c *cursor) set(n uint64) error {
	data := binary.LittleEndian.AppendUint64(nil, n)
	data = binary.LittleEndian.AppendUint32(data, crc32.Checksum(data, castagnoli))
	if _, err := c.file.WriteAt(data, c.slot*slotSize); err != nil {
		return err
	}
	c.value, c.slot = n, 1-c.slot
	return nil
}

// reset makes the cursor that of a new spool, durably.
func (c *cursor) reset() error {
	c.value, c.slot = 0, 0
	_, err := c.file.WriteAt(make([]byte, slots*slotSize), 0) // whose room stays
	return errors.Join(err, c.file.Sync())
}

func (c *cursor) sync() error { return c.file.Sync() }

func (c *cursor) close() error { return errors.Join(c.file.Sync(), c.file.Close()) }
