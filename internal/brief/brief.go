// Package brief reads of entries and contents what a count of many events asks of each,
// several times as fast as [event.ParseEntry]: it trusts the canonical form, in which the
// ledger wrote them and which its hashes hold.
package brief

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/graven-audit/graven/event"
)

// An Event is the brief of an entry. Its texts lie within the entry
// that it was read from, and live as long. Those that the entry does not have are empty.
type Event struct {
	ID                        []byte
	EventType, Severity       []byte
	Outcome                   []byte
	ActorType, ActorName      []byte
	Cluster, Namespace        []byte
	Kind, Name, UID           []byte
	CorrelationID, Fact       []byte
	Timestamp, RecordedAt     []byte // as [event.FormatTime] writes them
	RecordedBy, Attribution   []byte
	DurationMs, RetentionDays int64
}

var errForm = errors.New("the entry is not in canonical form")

// Read reads an entry as [event.Event.AppendEntry] wrote it, and nothing else: what is no
// canonical object may be taken for one, or give an error.
func (b *Event) Read(entry []byte) error {
	*b = Event{}
	rest, err := b.object(entry, nil)
	if err == nil && len(rest) > 0 {
		err = errForm
	}
	return err
}

// object reads the object that data begins with, a member of parent if that is not nil,
// and returns what follows it.
func (b *Event) object(data, parent []byte) ([]byte, error) {
	if len(data) < 2 || data[0] != '{' {
		return nil, errForm
	}
	data = data[1:]
	if data[0] == '}' {
		return data[1:], nil
	}
	for {
		name, rest, err := quoted(data)
		if err != nil || len(rest) < 2 || rest[0] != ':' {
			return nil, errForm
		}
		rest = rest[1:]
		switch {
		case rest[0] == '"':
			var value []byte
			if value, rest, err = quoted(rest); err != nil {
				return nil, err
			}
			if to := b.field(parent, name); to != nil {
				*to = value
			}
		case rest[0] == '{' && parent == nil && (string(name) == "actor" || string(name) == "resource" || string(name) == "recorded"):
			if rest, err = b.object(rest, name); err != nil {
				return nil, err
			}
		default:
			value, after, err := skip(rest)
			if err != nil {
				return nil, err
			}
			if to := b.number(parent, name); to != nil {
				for _, digit := range value {
					if digit < '0' || digit > '9' || len(value) > 18 {
						return nil, errForm
					}
					*to = *to*10 + int64(digit-'0')
				}
			}
			rest = after
		}
		switch {
		case len(rest) > 1 && rest[0] == ',':
			data = rest[1:]
		case len(rest) > 0 && rest[0] == '}':
			return rest[1:], nil
		default:
			return nil, errForm
		}
	}
}

// number returns where a member that is a number belongs; nil for nowhere.
func (b *Event) number(parent, name []byte) *int64 {
	switch {
	case parent != nil:
	case string(name) == "durationMs":
		return &b.DurationMs
	case string(name) == "retentionDays":
		return &b.RetentionDays
	}
	return nil
}

// field returns where a member's text belongs; nil for nowhere.
func (b *Event) field(parent, name []byte) *[]byte {
	switch string(parent) {
	case "":
		switch string(name) {
		case "id":
			return &b.ID
		case "eventType":
			return &b.EventType
		case "severity":
			return &b.Severity
		case "outcome":
			return &b.Outcome
		case "cluster":
			return &b.Cluster
		case "correlationID":
			return &b.CorrelationID
		case "fact":
			return &b.Fact
		case "timestamp":
			return &b.Timestamp
		}
	case "actor":
		switch string(name) {
		case "type":
			return &b.ActorType
		case "name":
			return &b.ActorName
		}
	case "resource":
		switch string(name) {
		case "kind":
			return &b.Kind
		case "namespace":
			return &b.Namespace
		case "name":
			return &b.Name
		case "uid":
			return &b.UID
		}
	case "recorded":
		switch string(name) {
		case "at":
			return &b.RecordedAt
		case "principal":
			return &b.RecordedBy
		case "attribution":
			return &b.Attribution
		}
	}
	return nil
}

// quoted reads a string, and returns what follows it.
func quoted(data []byte) (value, rest []byte, err error) {
	if len(data) < 2 || data[0] != '"' {
		return nil, nil, errForm
	}
	end := bytes.IndexByte(data[1:], '"') + 1
	if end == 0 {
		return nil, nil, errForm
	}
	if bytes.IndexByte(data[1:end], '\\') < 0 {
		return data[1:end], data[end+1:], nil
	}
	if end = closing(data); end < 0 {
		return nil, nil, errForm
	}
	var plain string
	if err := json.Unmarshal(data[:end+1], &plain); err != nil {
		return nil, nil, errForm
	}
	return []byte(plain), data[end+1:], nil
}

// closing returns the place of the quote that ends the string that data begins with, or -1.
func closing(data []byte) int {
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// skip passes over a value.
func skip(data []byte) (value, rest []byte, err error) {
	depth := 0
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			end := closing(data[i:])
			if end < 0 {
				return nil, nil, errForm
			}
			i += end
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return data[:i], data[i:], nil
			}
			depth--
		case ',':
			if depth == 0 {
				return data[:i], data[i:], nil
			}
		}
	}
	return nil, nil, errForm
}

// Time is [event.ParseTime] for the times of an [Event], faster for what
// [event.FormatTime] writes.
func Time(text []byte) (time.Time, error) {
	if len(text) >= 20 && text[4] == '-' && text[7] == '-' && text[10] == 'T' && text[13] == ':' && text[16] == ':' && text[len(text)-1] == 'Z' {
		year, month, day := digits(text[:4]), digits(text[5:7]), digits(text[8:10])
		hour, minute, second := digits(text[11:13]), digits(text[14:16]), digits(text[17:19])
		nanos, good := 0, len(text) == 20
		if fraction := text[19 : len(text)-1]; len(fraction) > 1 && len(fraction) <= 10 && fraction[0] == '.' {
			good = true
			nanos = digits(fraction[1:])
			for range 10 - len(fraction) {
				nanos *= 10
			}
		}
		if good && min(year, month-1, day-1, hour, minute, second, nanos) >= 0 && month <= 12 && day <= 31 && hour < 24 && minute < 60 && second < 60 {
			if t := time.Date(year, time.Month(month), day, hour, minute, second, nanos, time.UTC); t.Day() == day {
				return t, nil
			}
		}
	}
	return event.ParseTime(string(text))
}

// digits reads a number, or returns -1 << 31.
func digits(text []byte) int {
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return -1 << 31
		}
		n = n*10 + int(c-'0')
	}
	return n
}

// Details calls fn for each member of the details within erasable content, as
// [event.Event.AppendErasable] wrote it: with its text where it is one, and else with the JSON.
// What is not canonical gives an error, or is no member.
func Details(content []byte, fn func(name, value []byte)) error {
	if len(content) == 0 {
		return nil
	}
	return members(content, func(name, value []byte) error {
		if string(name) != "details" {
			return nil
		}
		return members(value, func(name, value []byte) error {
			if value[0] == '"' {
				var err error
				if value, _, err = quoted(value); err != nil {
					return err
				}
			}
			fn(name, value)
			return nil
		})
	})
}

// members calls fn for each member of an object, with the JSON of its value.
func members(data []byte, fn func(name, value []byte) error) error {
	if len(data) < 2 || data[0] != '{' {
		return errForm
	}
	for data = data[1:]; data[0] != '}'; {
		name, rest, err := quoted(data)
		if err != nil || len(rest) < 3 || rest[0] != ':' {
			return errForm
		}
		value, rest, err := skip(rest[1:])
		if err != nil || len(value) == 0 {
			return errForm
		}
		if err := fn(name, value); err != nil {
			return err
		}
		if data = rest; data[0] == ',' {
			data = data[1:]
		}
		if len(data) == 0 {
			return errForm
		}
	}
	return nil
}
