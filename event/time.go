package event

import (
	"errors"
	"time"
)

// ParseTime reads an RFC 3339 timestamp with a zone and at most nine digits
// of a second, and returns it in UTC.
func ParseTime(s string) (time.Time, error) {
	if len(s) < len("2006-01-02T15:04:05") {
		return time.Time{}, errTimeForm
	}
	num := func(from, to int) int {
		n := 0
		for _, c := range []byte(s[from:to]) {
			if c < '0' || c > '9' {
				return -1
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	if s[4] != '-' || s[7] != '-' || (s[10] != 'T' && s[10] != 't') || s[13] != ':' || s[16] != ':' {
		return time.Time{}, errTimeForm
	}
	year, month, day := num(0, 4), num(5, 7), num(8, 10)
	hour, minute, second := num(11, 13), num(14, 16), num(17, 19)
	if year < 0 || month < 1 || month > 12 || day < 1 || hour < 0 || hour > 23 ||
		minute < 0 || minute > 59 || second < 0 {
		return time.Time{}, errTimeForm
	}
	if second > 59 {
		return time.Time{}, errors.New("second 60 cannot be kept; give the second before or after")
	}
	i, nanos := 19, 0
	if i < len(s) && s[i] == '.' {
		start := i + 1
		for i = start; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
			if i-start < 9 {
				nanos = nanos*10 + int(s[i]-'0')
			}
		}
		switch digits := i - start; {
		case digits == 0:
			return time.Time{}, errTimeForm
		case digits > 9:
			return time.Time{}, errors.New("more digits than nanoseconds")
		default:
			for ; digits < 9; digits++ {
				nanos *= 10
			}
		}
	}
	var offset time.Duration
	switch zone := s[i:]; {
	case zone == "Z" || zone == "z":
	case len(zone) == 6 && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':':
		h, m := num(i+1, i+3), num(i+4, i+6)
		if h < 0 || h > 23 || m < 0 || m > 59 {
			return time.Time{}, errTimeForm
		}
		offset = time.Duration(h)*time.Hour + time.Duration(m)*time.Minute
		if zone[0] == '-' {
			offset = -offset
		}
	case zone == "":
		return time.Time{}, errors.New("no time zone; end it with Z or an offset such as +02:00")
	default:
		return time.Time{}, errTimeForm
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC)
	if t.Day() != day {
		return time.Time{}, errors.New("no such day in that month")
	}
	t = t.Add(-offset)
	if t.Year() < 0 || t.Year() > 9999 {
		return time.Time{}, errors.New("lies outside the years 0000 to 9999 in UTC")
	}
	return t, nil
}

var errTimeForm = errors.New("not an RFC 3339 time such as 2026-03-19T14:30:00.123Z")

// FormatTime writes t in UTC with no digits of a second, or three, six or nine:
// as few as keep it exact.
func FormatTime(t time.Time) string { return string(appendTime(nil, t)) }

func appendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	digits := func(n, width int) {
		var b [9]byte
		for i := width - 1; i >= 0; i-- {
			b[i] = byte('0' + n%10)
			n /= 10
		}
		dst = append(dst, b[:width]...)
	}
	digits(year, 4)
	dst = append(dst, '-')
	digits(int(month), 2)
	dst = append(dst, '-')
	digits(day, 2)
	dst = append(dst, 'T')
	digits(hour, 2)
	dst = append(dst, ':')
	digits(minute, 2)
	dst = append(dst, ':')
	digits(second, 2)
	if ns := t.Nanosecond(); ns != 0 {
		dst = append(dst, '.')
		switch {
		case ns%1e6 == 0:
			digits(ns/1e6, 3)
		case ns%1e3 == 0:
			digits(ns/1e3, 6)
		default:
			digits(ns, 9)
		}
	}
	return append(dst, 'Z')
}
