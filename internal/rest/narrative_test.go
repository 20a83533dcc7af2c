package rest_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestAStoryIsToldInTheFormThatIsAskedFor(t *testing.T) {
	d := open(t)
	d.tell("inc-1", "IssueCreated/i", "IssueResolved/i")
	viewer := d.as("viewer")
	const path = "/api/v1/audit/incidents/inc-1"
	for _, tt := range []struct{ query, accept, want string }{
		{"", "", "application/json"},
		{"", "*/*", "application/json"},
		{"", "text/markdown;q=0.9, */*", "text/markdown; charset=utf-8"},
		{"", "text/plain", "text/plain; charset=utf-8"},
		{"", "text", "application/json"},
		{"", ";;;,image/png", "application/json"},
		{"?format=json", "text/plain", "application/json"},
		{"?format=text", "", "text/plain; charset=utf-8"},
		{"?format=markdown", "", "text/markdown; charset=utf-8"},
	} {
		a := viewer.get(path+tt.query, "Accept", tt.accept).want(http.StatusOK)
		if got := a.header.Get("Content-Type"); got != tt.want {
			t.Errorf("%s, Accept %q: %s, want %s", tt.query, tt.accept, got, tt.want)
		}
		if body := string(a.body); !strings.Contains(body, "inc-1") || strings.HasPrefix(tt.want, "text/markdown") != strings.HasPrefix(body, "# Post-mortem") {
			t.Errorf("%s, Accept %q: %.200s", tt.query, tt.accept, body)
		}
	}
	for query, about := range map[string]string{"?format=pdf": "format", "?format=": "format", "?x=1": "x", "?format=text&format=json": "format"} {
		viewer.get(path+query).problem(http.StatusBadRequest, about, "")
	}
	var story struct {
		Narrative struct {
			Status string
			Facts  int
		}
	}
	viewer.get(path).want(http.StatusOK).into(&story)
	if story.Narrative.Facts != 2 || story.Narrative.Status != "resolved" {
		t.Errorf("%+v", story)
	}
}
