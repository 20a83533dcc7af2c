package compliance_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/internal/compliance"
	"github.com/graven-audit/graven/internal/paper"
	"github.com/graven-audit/graven/report"
)

var now = time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)

func ask(t *testing.T, params ...string) (compliance.Question, error) {
	t.Helper()
	q := compliance.NewQuestion("")
	for _, p := range params {
		name, value, _ := strings.Cut(p, "=")
		known, err := q.Set(name, value, now)
		if !known {
			t.Fatalf("%s is not known", name)
		}
		if err != nil {
			return q, err
		}
	}
	return q, q.Complete(now)
}

func TestAWindowIsWhatWasAsked(t *testing.T) {
	day := func(m time.Month, d int) time.Time { return time.Date(2026, m, d, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		params   string
		from, to time.Time
	}{
		{"", now.Add(-7 * 24 * time.Hour), now},
		{"window=30d", now.Add(-30 * 24 * time.Hour), now},
		{"from=2026-03-01 to=2026-03-07", day(3, 1), day(3, 8)},
		{"from=2026-03-01 window=1d", day(3, 1), day(3, 2)},
		{"to=2026-03-07 window=1d", day(3, 7), day(3, 8)},
		{"from=2026-03-30", day(3, 30), now},
		{"from=2026-03-30 to=2026-03-31", day(3, 30), now},
	} {
		q, err := ask(t, strings.Fields(c.params)...)
		if err != nil || !q.From.Equal(c.from) || !q.To.Equal(c.to) {
			t.Errorf("%q is %s to %s, %v; want %s to %s", c.params, q.From, q.To, err, c.from, c.to)
		}
	}
}

func TestWindowsThatMakeNoSenseAreRefusedByName(t *testing.T) {
	for params, names := range map[string]string{
		"window=0": "window", "window=0d": "window", "window=soon": "window", "window=-1h": "window", "from=yesterday": "from", "to=x": "to",
		"from=2026-03-07 to=2026-03-01": "from", "from=2026-03-01 to=2026-03-07 window=7d": "window", "to=2027-01-01": "to", "window=40000d": "window",
		"format=docx": "format", "chaos=maybe": "chaos", "compare=2": "compare", "checkpoint=0": "checkpoint", "namespace=": "namespace",
		"from=0001-01-01 to=2026-01-01": "from", "from=1500-01-01 to=2026-01-01": "from",
	} {
		_, err := ask(t, strings.Fields(params)...)
		if err == nil || !strings.Contains(err.Error(), names) {
			t.Errorf("%q: %v, which does not name %s", params, err, names)
		}
	}
}

func TestEveryFormatOfAReportIsTheSameTwice(t *testing.T) {
	tally := report.NewTally(report.Question{From: now.Add(-time.Hour), To: now}, true)
	r, err := tally.Report(report.Ledger{Origin: "o", Size: 3, Root: "r"}, now, false)
	if err != nil {
		t.Fatal(err)
	}
	r.Notes = append(r.Notes, "=cmd|' /C calc'!A0 <b>")
	for _, f := range paper.Formats {
		one, err := compliance.Write(r, f)
		if err != nil {
			t.Fatal(err)
		}
		two, err := compliance.Write(r, f)
		if err != nil || len(one) == 0 || !bytes.Equal(one, two) {
			t.Errorf("%s: %d bytes, then %d, %v", f.Name, len(one), len(two), err)
		}
	}
}
