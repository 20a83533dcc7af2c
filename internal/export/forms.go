// Package export writes events in the forms that other systems read.
package export

import (
	"encoding/csv"
	"strconv"
	"strings"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/jcs"
	"github.com/graven-audit/graven/trail"
)

// A Format is one in which events are exported.
type Format struct {
	ContentType string
	Extension   string
	// Begin, if not nil, returns what stands before the first event.
	Begin func() []byte
	// Line appends one event.
	Line func(dst []byte, l *trail.Line) []byte
}

// Formats returns the formats of a ledger's events, by their names.
func Formats(origin string) map[string]Format {
	return map[string]Format{
		"ndjson": {"application/x-ndjson", "ndjson", nil, func(dst []byte, l *trail.Line) []byte { return l.Append(dst) }},
		"csv":    {"text/csv; charset=utf-8", "csv", CSVHeader, AppendCSV},
		"cloudevents": {"application/x-ndjson", "cloudevents.ndjson", nil, func(dst []byte, l *trail.Line) []byte {
			return AppendCloudEvent(dst, l, origin)
		}},
	}
}

var header = []string{"index", "id", "name", "timestamp", "eventType", "category", "action", "outcome", "severity",
	"actorType", "actorName", "kind", "namespace", "resource", "correlationID", "cluster", "durationMs", "errorCode", "errorMessage",
	"details", "recordedAt", "principal", "attribution", "previousHash", "hash"}

// CSVHeader returns the line with the names of the columns.
func CSVHeader() []byte { return csvLine(nil, header) }

// AppendCSV appends an event as a line of RFC 4180.
func AppendCSV(dst []byte, l *trail.Line) []byte {
	e := l.Event
	details := "{}"
	if len(e.Details) > 0 {
		details = string(e.Details)
	}
	return csvLine(dst, []string{itoa(l.Record.Index), e.ID.String(), e.Name, event.FormatTime(e.Timestamp), e.EventType, e.Category,
		e.Action, e.Outcome, e.Severity, e.Actor.Type, e.Actor.Name, e.Resource.Kind, e.Resource.Namespace, e.Resource.Name,
		e.CorrelationID, e.Cluster, itoa(e.DurationMs), e.Error.Code, e.Error.Message, details,
		event.FormatTime(e.Recorded.At), e.Recorded.Principal, e.Recorded.Attribution, trail.Hex(l.Previous), trail.Hex(l.Record.Chain)})
}

// csvLine appends a line of RFC 4180. A field that a spreadsheet would take
// for a formula gets an apostrophe before it, and so does one that begins with
// an apostrophe, so that taking one away gives the field back.
func csvLine(dst []byte, fields []string) []byte {
	var b strings.Builder
	safe := make([]string, len(fields))
	for i, f := range fields {
		if f != "" && strings.IndexByte("=+-@\t\r\n'", f[0]) >= 0 {
			f = "'" + f
		}
		safe[i] = f
	}
	w := csv.NewWriter(&b)
	w.Write(safe)
	w.Flush()
	return append(dst, b.String()...)
}

// AppendCloudEvent appends an event of the ledger called origin as a CloudEvent
// 1.0 in JSON, on a line.
func AppendCloudEvent(dst []byte, l *trail.Line, origin string) []byte {
	e := l.Event
	attribute := func(name, value string) {
		dst = append(append(append(dst, `,"`...), name...), `":`...)
		dst = jcs.AppendString(dst, value)
	}
	dst = append(dst, `{"specversion":"1.0"`...)
	attribute("id", e.ID.String())
	attribute("source", "urn:graven:"+origin)
	attribute("type", "dev.graven.event."+e.EventType)
	if subject := strings.Trim(e.Resource.Namespace+"/"+e.Resource.Kind+"/"+e.Resource.Name, "/"); subject != "" {
		attribute("subject", subject)
	}
	attribute("time", event.FormatTime(e.Timestamp))
	attribute("datacontenttype", "application/json")
	if e.CorrelationID != "" {
		attribute("partitionkey", e.CorrelationID)
	}
	attribute("sequence", itoa(l.Record.Index))
	attribute("eventhash", trail.Hex(l.Record.Chain))
	attribute("severity", e.Severity)
	dst = append(dst, `,"data":`...)
	return append(e.AppendJSON(dst), "}\n"...)
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
