package control_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/graven-audit/graven/internal/control"
)

func TestWhatIsShippedIsSound(t *testing.T) {
	b, err := control.Shipped()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.Names(), " "); got != "dora eu-ai-act hipaa iso-27001 nist-800-53 pci-dss soc2" {
		t.Errorf("frameworks are %s", got)
	}
	used := map[string]bool{}
	for _, f := range b.Frameworks {
		for _, c := range f.Controls {
			for _, name := range c.Checks {
				used[name] = true
			}
			for _, text := range []string{c.Asks, c.Shows, c.Organisation, c.Title} {
				for _, claim := range []string{"compliant", "complies", "satisfied", "is met"} {
					if strings.Contains(strings.ToLower(text), claim) {
						t.Errorf("%s %s says %q, which is the auditor's word", f.Name, c.ID, claim)
					}
				}
			}
		}
	}
	for name := range b.Checks {
		if !used[name] {
			t.Errorf("check %s is used by no control", name)
		}
	}
}

func TestABadFileIsRefusedByItsNameAndPlace(t *testing.T) {
	const checks = "- {name: c, title: t, asks: a, instances: [AuditVerified], pass: 'event.sensitive'}\n"
	const framework = "name: f\ntitle: t\nsource: s\ncontrols:\n- {id: '1', title: t, asks: a, shows: s, strength: direct, checks: [c], organisation: o}\n"
	for _, c := range []struct{ checks, framework, says string }{
		{strings.Replace(checks, "event.sensitive", "event.nothing == 1", 1), framework, "checks.yaml: check \"c\": pass: line 1, column "},
		{strings.Replace(checks, "event.sensitive", "1 + 1", 1), framework, "gives a int"},
		{strings.Replace(checks, "AuditVerified", "Nothing", 1), framework, "\"Nothing\" is no event type"},
		{strings.Replace(checks, "pass:", "passes:", 1), framework, "checks.yaml"},
		{checks + checks, framework, "check \"c\" stands twice"},
		{"- {name: c, title: t, asks: a, procedure: magic}\n", framework, "there is none called \"magic\"; there are answered, "},
		{"- {name: c, title: t, asks: a, procedure: gaps, pass: 'true'}\n", framework, "a procedure has no instances"},
		{"- {name: c, title: t, asks: a, procedure: gaps, per: week}\n", framework, "per: \"week\" is not day"},
		{checks, strings.Replace(framework, "[c]", "[d]", 1), "frameworks/f.yaml: control \"1\": there is no check \"d\""},
		{checks, strings.Replace(framework, "direct", "total", 1), "strength: \"total\""},
		{checks, strings.Replace(framework, "organisation: o", "organisation: ''", 1), "organisation are needed"},
		{checks, strings.Replace(framework, "shows: s,", "shows: s, note: n,", 1), "frameworks/f.yaml"},
		{checks, "name: f\ntitle: t\nsource: s\ncontrols: []\n", "controls are needed"},
	} {
		_, err := control.Read(fstest.MapFS{"checks.yaml": {Data: []byte(c.checks)}, "frameworks/f.yaml": {Data: []byte(c.framework)}})
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%q: %v", c.says, err)
		}
	}
}
