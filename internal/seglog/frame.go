package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/internal/datadir"
)

const (
	magic      = "GRVNSEG1"
	headerSize = len(magic) + 8 + 4
	frameHead  = 4 + 4
	// MaxBody bounds the body of a frame, in bytes.
	MaxBody = 1 << 20
	// FirstOffset is where a segment's first frame stands.
	FirstOffset = int64(headerSize)
	suffix      = ".seg"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A Batch is a sequence of frames to be appended at once. The zero Batch is
// empty and ready for use.
type Batch struct {
	buf    []byte
	starts []int
}

// Grow makes room for n more bytes.
func (b *Batch) Grow(n int) { b.buf = slices.Grow(b.buf, n) }

// Add adds a frame with the body that appendBody appends to its argument.
func (b *Batch) Add(appendBody func([]byte) []byte) {
	b.starts = append(b.starts, len(b.buf))
	b.buf = AppendFrame(b.buf, appendBody)
}

// AppendFrame appends a frame with the body that appendBody appends.
func AppendFrame(dst []byte, appendBody func([]byte) []byte) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0)
	dst = appendBody(dst)
	body := dst[start+frameHead:]
	if len(body) == 0 || len(body) > MaxBody {
		panic(fmt.Sprintf("internal error: frame body of %d bytes", len(body)))
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(dst[start+4:], crc32.Checksum(body, castagnoli))
	return dst
}

// maxKept bounds the memory that an empty batch keeps.
const maxKept = 4 << 20

// Reset empties b. It keeps its memory, unless that is much.
func (b *Batch) Reset() {
	if cap(b.buf) > maxKept {
		b.buf = nil
	}
	b.buf, b.starts = b.buf[:0], b.starts[:0]
}

// Size returns how many bytes the batch takes up.
func (b *Batch) Size() int { return len(b.buf) }

// Offset returns where frame i stands within the batch.
func (b *Batch) Offset(i int) int64 { return int64(b.starts[i]) }

// Header returns the header of the segment with the given base.
func Header(base uint64) []byte {
	h := binary.LittleEndian.AppendUint64([]byte(magic), base)
	return binary.LittleEndian.AppendUint32(h, crc32.Checksum(h, castagnoli))
}

func checkHeader(h []byte, base uint64) error {
	if string(h) == string(Header(base)) {
		return nil
	}
	if version := h[len(magic)-1]; string(h[:len(magic)-1]) == magic[:len(magic)-1] && version > magic[len(magic)-1] &&
		binary.LittleEndian.Uint32(h[headerSize-4:]) == crc32.Checksum(h[:headerSize-4], castagnoli) {
		return datadir.Newer("the log is", string(version), magic[len(magic)-1:])
	}
	return errors.New("damaged header")
}

// SegmentName returns the name of the segment file with the given base.
func SegmentName(base uint64) string { return fmt.Sprintf("%020d", base) + suffix }

// SegmentBase returns the base of a segment file, by its name.
func SegmentBase(path string) (uint64, bool) {
	digits, ok := strings.CutSuffix(filepath.Base(path), suffix)
	if !ok || len(digits) != 20 {
		return 0, false
	}
	base, err := strconv.ParseUint(digits, 10, 64)
	return base, err == nil
}
