package access_test

import (
	"testing"

	"github.com/graven-audit/graven/internal/access"
)

func TestAPrincipalGetsAQuarter(t *testing.T) {
	q := access.NewQuota(8)
	var releases []func()
	for i, tt := range []struct {
		name string
		ok   bool
	}{{"a", true}, {"a", true}, {"a", false}, {"b", true}, {"b", true}, {"c", true}, {"c", true}, {"d", true}, {"d", true}, {"e", false}} {
		release, ok := q.Take(tt.name)
		if ok != tt.ok {
			t.Fatalf("%d: %s got %v", i, tt.name, ok)
		}
		if ok {
			releases = append(releases, release)
		}
	}
	releases[0]()
	if _, ok := q.Take("e"); !ok {
		t.Error("what was given back is not there")
	}
	if _, ok := access.NewQuota(1).Take("a"); !ok {
		t.Error("of one, nobody gets any")
	}
}
