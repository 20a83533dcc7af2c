package capture

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestNoExpressionMakesTextWithoutBound(t *testing.T) {
	text := strings.Repeat("a", 20_000)
	for name, test := range map[string]struct {
		expression string
		fails      bool
	}{
		"a little":             {"size('a-b-c'.replace('-', '+', 1)) == 5 && 'a-b-c'.replace('-', '') == 'abc'", false},
		"each letter by all":   {"size(object.text.replace('a', object.text)) > 0", true},
		"nothing by all":       {"size(object.text.replace('', object.text)) > 0", true},
		"one letter by all":    {"size(object.text.replace('a', object.text, 1)) == 39999", false},
		"again and again":      {"size([1,2,3,4,5,6,7,8,9].map(i, object.text.replace('a', 'aaaaaaaaaa')).map(t, t.replace('a', 'aaaaaaaaaa'))) > 0", true},
		"what is no text":      {"object.n.replace('a', 'b') == ''", true},
		"what is not there":    {"object.?gone.orValue('').replace('a', 'b') == ''", false},
		"by a variable number": {"object.text.replace('a', 'b', object.n) == object.text.replace('a', 'b', 2)", false},
	} {
		t.Run(name, func(t *testing.T) {
			prog, err := Compile(Policy{Name: "p", At: Watch, Match: Match{Resources: []Resource{{Version: "v1", Resource: "y"}}},
				Records: []Record{{Event: map[string]string{"eventType": "'x'", "fact": "'y'", "correlationID": "string(" + test.expression + ")"}}}})
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			events, err := prog.Events(t.Context(), &Input{Object: map[string]any{"text": text, "n": int64(2)}, Operation: "UPDATE", Now: time.Now()})
			runtime.ReadMemStats(&after)
			if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 100 {
				t.Errorf("%d MiB were taken", mib)
			}
			if (err != nil) != test.fails || err == nil && (len(events) != 1 || events[0].CorrelationID != "true") {
				t.Errorf("%+v, %v", events, err)
			}
		})
	}
}
