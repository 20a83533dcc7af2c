package seglog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/graven-audit/graven/internal/datadir"
)

// A Reader reads one segment's frames in order, in blocks, and can go on
// behind damage.
type Reader struct {
	r      io.ReaderAt
	base   uint64
	offset int64 // of the next frame
}

// NewReader reads the segment with the given base from r, from offset on;
// [FirstOffset] is its first frame.
func NewReader(r io.ReaderAt, base uint64, offset int64) *Reader {
	return &Reader{r: r, base: base, offset: offset}
}

// A Frame is a frame's place and body.
type Frame struct {
	Offset int64
	Body   []byte
}

// End returns where the frame ends.
func (f Frame) End() int64 { return f.Offset + int64(frameHead+len(f.Body)) }

// Damage is an error that says where a segment does not hold a frame, though
// it holds something.
type Damage struct {
	Base   uint64
	Offset int64
	Reason string
}

func (d *Damage) Error() string {
	return fmt.Sprintf("%s: byte %d: %s", SegmentName(d.Base), d.Offset, d.Reason)
}

// CheckHeader reads the segment's header. The error is a *[Damage], or
// [datadir.ErrNewer], or one of reading.
func (r *Reader) CheckHeader() error {
	h := make([]byte, headerSize)
	if _, err := r.r.ReadAt(h, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := checkHeader(h, r.base); errors.Is(err, datadir.ErrNewer) {
		return fmt.Errorf("%s: %w", SegmentName(r.base), err)
	} else if err != nil {
		return &Damage{Base: r.base, Reason: err.Error()}
	}
	return nil
}

// Offset returns where the next frame is expected.
func (r *Reader) Offset() int64 { return r.offset }

// Next returns the next frames, as many as fit into buf, which should have
// room for 1 MiB or more; a larger frame gets memory of its own. The frames
// share buf. At the end of the frames the error is io.EOF; where something
// else stands, it is a *[Damage], and no frames come with either.
func (r *Reader) Next(buf []byte) ([]Frame, error) {
	buf = buf[:cap(buf)]
	n, err := r.r.ReadAt(buf, r.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", SegmentName(r.base), err)
	}
	data := buf[:n]
	var frames []Frame
	at := 0
	for len(data)-at >= frameHead {
		length := int(binary.LittleEndian.Uint32(data[at:]))
		if length == 0 {
			break
		}
		if length > MaxBody {
			break
		}
		end := at + frameHead + length
		if end > len(data) {
			break
		}
		body := data[at+frameHead : end : end]
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(data[at+4:]) {
			break
		}
		frames = append(frames, Frame{Offset: r.offset + int64(at), Body: body})
		at = end
	}
	r.offset += int64(at)
	if len(frames) > 0 {
		return frames, nil
	}
	return r.single(data)
}

// single reads the frame at the offset, whose first bytes are data, when it is
// none of those that fit into a buffer.
func (r *Reader) single(data []byte) ([]Frame, error) {
	if len(data) == 0 {
		return nil, io.EOF
	}
	var head [frameHead]byte
	copy(head[:], data)
	length := int(binary.LittleEndian.Uint32(head[:]))
	switch {
	case length == 0 && binary.LittleEndian.Uint32(head[4:]) == 0:
		return nil, io.EOF
	case length == 0 || length > MaxBody:
		return nil, r.damage("no frame begins here")
	}
	whole := make([]byte, frameHead+length)
	n, err := r.r.ReadAt(whole, r.offset)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", SegmentName(r.base), err)
	}
	body := whole[frameHead:]
	if n < len(whole) {
		return nil, r.damage("the frame is cut off")
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, r.damage("the frame's checksum does not match")
	}
	f := Frame{Offset: r.offset, Body: body}
	r.offset += int64(len(whole))
	return []Frame{f}, nil
}

func (r *Reader) damage(reason string) error {
	return &Damage{Base: r.base, Offset: r.offset, Reason: reason}
}

// Resync moves behind damage to the next byte at which a frame stands that
// plausible accepts, and reports whether there is one before limit. plausible
// is asked before the checksum is computed.
func (r *Reader) Resync(limit int64, plausible func(body []byte) bool) (bool, error) {
	// A frame that begins in the first half of buf ends within it.
	const half = MaxBody + frameHead
	buf := make([]byte, max(min(2*half, limit-r.offset-1), 0))
	for from := r.offset + 1; from < limit; from += half {
		n, err := r.r.ReadAt(buf[:min(int64(len(buf)), limit-from)], from)
		if err != nil && !errors.Is(err, io.EOF) {
			return false, fmt.Errorf("read %s: %w", SegmentName(r.base), err)
		}
		for i := 0; i+frameHead < n && i < half; i++ {
			length := binary.LittleEndian.Uint32(buf[i:])
			if length == 0 || length > MaxBody || int(length) > n-i-frameHead {
				continue
			}
			body := buf[i+frameHead : i+frameHead+int(length)]
			if plausible(body) && crc32.Checksum(body, castagnoli) == binary.LittleEndian.Uint32(buf[i+4:]) {
				r.offset = from + int64(i)
				return true, nil
			}
		}
	}
	return false, nil
}
