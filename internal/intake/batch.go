package intake

import (
	"bytes"
	"errors"
	"fmt"
	"mime"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
)

// ErrMedia means that a Content-Type cannot be read.
var ErrMedia = errors.New("malformed media type")

// Batch splits a body into events: a JSON array or NDJSON. Where an array is cut
// off, nothing of it counts.
func Batch(contentType string, body []byte, limit int) (events [][]byte, err error) {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && contentType != "" {
		return nil, fmt.Errorf("%w: %w", ErrMedia, err)
	}
	if len(bytes.TrimSpace(body)) == 0 {
		return nil, &event.FieldError{Field: "body", Reason: "no events"}
	}
	sc := jcs.NewScanner(body)
	switch {
	case media == "application/x-ndjson" || media == "application/jsonl" || sc.Kind() == '{':
		for line := range bytes.Lines(body) {
			if line = bytes.Trim(line, " \t\r\n"); len(line) == 0 {
				continue
			}
			if len(events) == limit {
				return nil, ErrTooMany
			}
			events = append(events, line)
		}
	case sc.Kind() == '[':
		if events, err = jcs.Elements(body, limit); err != nil {
			return nil, err
		}
		if len(events) > limit {
			return nil, ErrTooMany
		}
	default:
		return nil, &event.FieldError{Field: "body", Reason: "neither a JSON array of events nor NDJSON"}
	}
	if len(events) == 0 {
		return nil, &event.FieldError{Field: "body", Reason: "no events"}
	}
	return events, nil
}
