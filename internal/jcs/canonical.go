package jcs

import (
	"bytes"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Transform returns the canonical form of one JSON document, which may nest
// objects and arrays maxDepth deep.
func Transform(data []byte, maxDepth int) ([]byte, error) {
	s := NewScanner(data)
	out, err := s.Canonical(make([]byte, 0, len(data)), maxDepth)
	if err != nil {
		return nil, err
	}
	return out, s.End()
}

// A member is an object's member while its object is read: its decoded name,
// and where its canonical form stands in the output.
type member struct {
	name       []byte
	start, end int
}

// Canonical reads any value and appends its canonical form to dst. The value
// may nest objects and arrays maxDepth deep.
func (s *Scanner) Canonical(dst []byte, maxDepth int) ([]byte, error) {
	s.space()
	start := s.pos
	if s.asIs(maxDepth) {
		return append(dst, s.data[start:s.pos]...), nil
	}
	if s.pos = start; cap(dst) == 0 {
		dst = make([]byte, 0, len(s.data)-s.pos)
	}
	return s.canonical(dst, maxDepth)
}

// CanonicalObject reports whether data is an object that a quick look shows to
// be canonical, nested maxDepth deep at most, and calls each for the names of
// its members. What it is in doubt of it does not take for canonical.
func CanonicalObject(data []byte, maxDepth int, each func(name []byte)) bool {
	s := Scanner{data: data}
	return maxDepth > 0 && len(data) > 0 && data[0] == '{' && s.nestedAsIs('{', maxDepth-1, each) && s.pos == len(data)
}

// asIs reads a value that a quick look shows to be canonical already, and
// reports whether it is. What it is in doubt of it does not take for canonical;
// how far it has read is undefined then.
func (s *Scanner) asIs(maxDepth int) bool {
	if s.pos == len(s.data) {
		return false
	}
	switch c := s.data[s.pos]; c {
	case '"':
		_, _, ok := s.textAsIs()
		return ok
	case '{', '[':
		return maxDepth > 0 && s.nestedAsIs(c, maxDepth-1, nil)
	case 't':
		return s.literal("true") == nil
	case 'f':
		return s.literal("false") == nil
	case 'n':
		return s.literal("null") == nil
	}
	lit, err := s.number()
	if err != nil {
		return false
	}
	var buf [32]byte
	out, err := appendNumber(buf[:0], lit)
	return err == nil && bytes.Equal(out, lit)
}

// nestedAsIs is asIs for an object or an array. It calls each, if it is not
// nil, for the names of an object's members.
func (s *Scanner) nestedAsIs(open byte, maxDepth int, each func(name []byte)) bool {
	end := open + 2 // in ASCII
	s.pos++
	var last []byte
	for first := true; s.pos < len(s.data); first = false {
		if first && s.data[s.pos] == end {
			s.pos++
			return true
		}
		if open == '{' {
			if s.data[s.pos] != '"' {
				return false
			}
			name, ascii, ok := s.textAsIs()
			if !ok || !ascii || !first && bytes.Compare(last, name) >= 0 || s.pos == len(s.data) || s.data[s.pos] != ':' {
				return false
			}
			s.pos++
			if last = name; each != nil {
				each(name)
			}
		}
		if !s.asIs(maxDepth) || s.pos == len(s.data) {
			return false
		}
		s.pos++
		switch s.data[s.pos-1] {
		case ',':
		case end:
			return true
		default:
			return false
		}
	}
	return false
}

// textAsIs is asIs for a string, of which it returns the content.
func (s *Scanner) textAsIs() (text []byte, ascii, ok bool) {
	s.pos++
	start := s.pos
	ascii = true
	for {
		if s.pos = plain(s.data, s.pos); s.pos == len(s.data) {
			return nil, false, false
		}
		switch c := s.data[s.pos]; {
		case c == '"':
			text = s.data[start:s.pos]
			s.pos++
			return text, ascii, ascii || utf8.Valid(text)
		case c < 0x80:
			return nil, false, false
		}
		ascii = false
		s.pos++
	}
}

func (s *Scanner) canonical(dst []byte, maxDepth int) ([]byte, error) {
	switch c := s.Kind(); c {
	case '"':
		b, err := s.text()
		if err != nil {
			return nil, err
		}
		return appendText(dst, b), nil
	case '{':
		if maxDepth == 0 {
			return nil, s.fail("nested too deeply")
		}
		return s.canonicalObject(dst, maxDepth-1)
	case '[':
		if maxDepth == 0 {
			return nil, s.fail("nested too deeply")
		}
		dst = append(dst, '[')
		err := s.Array(func(i int) (err error) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst, err = s.canonical(dst, maxDepth-1)
			return err
		})
		return append(dst, ']'), err
	case 't':
		return append(dst, "true"...), s.literal("true")
	case 'f':
		return append(dst, "false"...), s.literal("false")
	case 'n':
		return append(dst, "null"...), s.literal("null")
	default:
		if c != '-' && (c < '0' || c > '9') {
			return nil, s.want("a value")
		}
		lit, err := s.number()
		if err != nil {
			return nil, err
		}
		if dst, err = appendNumber(dst, lit); err != nil {
			return nil, s.fail("%v", err)
		}
		return dst, nil
	}
}

func (s *Scanner) canonicalObject(dst []byte, maxDepth int) ([]byte, error) {
	base, from := len(s.members), len(dst)
	defer func() { s.members = s.members[:base] }()
	dst = append(dst, '{')
	sorted := true
	err := s.Object(func(name []byte) (err error) {
		if n := len(s.members); n > base {
			dst = append(dst, ',')
			sorted = sorted && compareUTF16(s.members[n-1].name, name) < 0
		}
		at := len(s.members)
		s.members = append(s.members, member{name: name, start: len(dst)})
		dst = append(appendText(dst, name), ':')
		if dst, err = s.canonical(dst, maxDepth); err != nil {
			return err
		}
		s.members[at].end = len(dst)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if !sorted {
		own := s.members[base:]
		slices.SortStableFunc(own, func(a, b member) int { return compareUTF16(a.name, b.name) })
		for i := 1; i < len(own); i++ {
			if bytes.Equal(own[i-1].name, own[i].name) {
				return nil, Within(string(own[i].name), s.fail("member stands twice in its object, which ends"))
			}
		}
		s.scratch = append(s.scratch[:0], dst[from:]...)
		dst = dst[:from+1]
		for i, m := range own {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, s.scratch[m.start-from:m.end-from]...)
		}
	}
	return append(dst, '}'), nil
}

// Compare orders member names as the canonical form does.
func Compare(a, b string) int { return compareUTF16([]byte(a), []byte(b)) }

// compareUTF16 orders names by their UTF-16 code units, as RFC 8785 §3.2.3
// asks. That is the order of their bytes, but for characters past U+FFFF,
// whose surrogates sort below U+E000 to U+FFFF.
func compareUTF16(a, b []byte) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	for i > 0 && i < len(a) && i < len(b) && !utf8.RuneStart(a[i]) {
		i--
	}
	if i < len(a) && i < len(b) {
		ra, _ := utf8.DecodeRune(a[i:])
		rb, _ := utf8.DecodeRune(b[i:])
		if (ra > 0xffff) != (rb > 0xffff) {
			if unit(ra) < unit(rb) {
				return -1
			}
			return 1
		}
	}
	return bytes.Compare(a[i:], b[i:])
}

// unit returns the first UTF-16 code unit of r.
func unit(r rune) rune {
	if r > 0xffff {
		return 0xd800 + (r-0x10000)>>10
	}
	return r
}

// Plain reports whether s is ASCII that stands in a string as it is.
func Plain(s string) bool { return plain(s, 0) == len(s) }

// AppendString appends s, which must be valid UTF-8, as a canonical string.
func AppendString(dst []byte, s string) []byte { return appendText(dst, s) }

func appendText[T string | []byte](dst []byte, s T) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := plain(s, 0); i < len(s); i++ {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\b':
			dst = append(dst, '\\', 'b')
		case '\f':
			dst = append(dst, '\\', 'f')
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// appendNumber appends the literal as ECMAScript would print its float64.
func appendNumber(dst, lit []byte) ([]byte, error) {
	whole := !bytes.ContainsAny(lit, ".eE")
	if whole && len(lit) <= 15 {
		if string(lit) == "-0" {
			lit = lit[1:]
		}
		return append(dst, lit...), nil
	}
	if shortDecimal(lit) {
		return append(dst, lit...), nil
	}
	f, err := strconv.ParseFloat(string(lit), 64)
	if err != nil {
		return nil, errors.New("number out of range")
	}
	if f == 0 && bytes.ContainsAny(mantissa(lit), "123456789") {
		return nil, errors.New("number out of range")
	}
	n := len(dst)
	if dst = appendFloat(dst, f); whole && !sameInteger(dst[n:], lit) {
		return nil, errors.New("a float64 cannot hold the integer as written; send it as a string")
	}
	return dst, nil
}

// shortDecimal reports whether lit is a fraction that a float64 keeps and
// ECMAScript prints digit by digit. Of no more than 15 digits no two decimals
// are one float64, so that none of them has a shorter form.
func shortDecimal(lit []byte) bool {
	whole, fraction, _ := bytes.Cut(bytes.TrimPrefix(lit, []byte("-")), []byte("."))
	if len(whole)+len(fraction) > 15 || len(fraction) == 0 || fraction[len(fraction)-1] == '0' || bytes.ContainsAny(fraction, "eE") {
		return false
	}
	return whole[0] != '0' || bytes.ContainsAny(fraction[:min(len(fraction), 6)], "123456789")
}

func mantissa(lit []byte) []byte {
	if i := bytes.IndexAny(lit, "eE"); i >= 0 {
		return lit[:i]
	}
	return lit
}

// sameInteger reports whether two literals write one integer; a may have an
// exponent.
func sameInteger(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, ok := new(big.Rat).SetString(string(a))
	if !ok {
		return false
	}
	y, ok := new(big.Int).SetString(string(b), 10)
	return ok && x.IsInt() && x.Num().Cmp(y) == 0
}

// appendFloat prints f by the rules of ECMAScript's Number::toString, with the
// shortest digits that read back as f.
func appendFloat(dst []byte, f float64) []byte {
	if f == 0 { // and -0
		return append(dst, '0')
	}
	abs := f
	if abs < 0 {
		abs = -abs
	}
	if abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	// Go writes at least two digits of exponent, ECMAScript as few as needed.
	if n := len(dst); n >= 4 && dst[n-2] == '0' && (dst[n-3] == '-' || dst[n-3] == '+') {
		dst[n-2] = dst[n-1]
		dst = dst[:n-1]
	}
	return dst
}
