package intake_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/intake"
)

func TestABatchIsSplitIntoItsEvents(t *testing.T) {
	for _, tt := range []struct{ media, body, want string }{
		{"", `[1, {"a":[2]} ,"x"]`, `[1 {"a":[2]} "x"]`},
		{"application/json", " {\"a\":1}\n\n{\"b\":2}\r\n", `[{"a":1} {"b":2}]`},
		{"application/x-ndjson; charset=utf-8", "7\nnonsense\n", "[7 nonsense]"},
		{"application/json", "[{},{},{}]", "[{} {} {}]"},
	} {
		events, err := intake.Batch(tt.media, []byte(tt.body), 3)
		var texts []string
		for _, e := range events {
			texts = append(texts, strings.TrimSpace(string(e)))
		}
		if got := fmt.Sprint(texts); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v", tt.body, got, err)
		}
	}
	for _, tt := range []struct{ media, body, says string }{
		{"", "", "no events"}, {"", " \n", "no events"}, {"", "[ ]", "no events"}, {"", "7", "neither"}, {"", "[1", "array"}, {"a/b/c", "[1]", "media type"},
		{"", "[1,2,3,4]", "too many"}, {"application/jsonl", "1\n2\n3\n4", "too many"},
	} {
		if events, err := intake.Batch(tt.media, []byte(tt.body), 3); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %q, %v", tt.body, events, err)
		}
	}
}

func FuzzBatch(f *testing.F) {
	for _, seed := range []string{`[1,{"a":[2]}]`, "{}\n{}", "[1", "7", `["]"]`} {
		f.Add("application/json", seed)
	}
	f.Fuzz(func(t *testing.T, media, body string) {
		events, err := intake.Batch(media, []byte(body), 10)
		if err == nil && (len(events) == 0 || len(events) > 10) || errors.Is(err, intake.ErrTooMany) && strings.Count(body, "\n")+strings.Count(body, ",") < 10 {
			t.Errorf("%q: %d events, %v", body, len(events), err)
		}
	})
}
