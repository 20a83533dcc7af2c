package rest_test

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/graven-audit/graven/internal/rest"
)

const packagePath = "/api/v1/compliance/evidence?framework=soc2&from=2026-03-19&to=2026-03-19"

// unpacked returns the texts of a package's files by their names.
func unpacked(t *testing.T, body []byte) map[string]string {
	t.Helper()
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[f.Name] = string(text)
	}
	return files
}

func TestAPackageThatCannotBeWrittenIsNotHandedOut(t *testing.T) {
	scratch := filepath.Join(t.TempDir(), "scratch")
	if err := os.Mkdir(scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	d := open(t, change{rest: func(c *rest.Config) { c.Scratch = scratch }})
	d.as("recorder").record(samples(0, 12)...)
	if err := os.Remove(scratch); err != nil {
		t.Fatal(err)
	}
	a := d.as("auditor").get(packagePath).want(http.StatusInternalServerError)
	if strings.Contains(string(a.body), scratch) {
		t.Errorf("a path of this machine is told: %s", a.body)
	}
	if n := len(d.recorded("EvidenceExported")); n != 0 {
		t.Errorf("%d packages are recorded", n)
	}
	if err := os.Mkdir(scratch, 0o700); err != nil {
		t.Fatal(err)
	}
	d.as("auditor").get(packagePath).want(http.StatusOK)
	if left, err := os.ReadDir(scratch); err != nil || len(left) > 0 || len(d.recorded("EvidenceExported")) != 1 {
		t.Errorf("%d files are left, %d packages recorded: %v", len(left), len(d.recorded("EvidenceExported")), err)
	}
}

func TestAPackageSaysWhatWasErased(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 12)...)
	d.follow()
	d.as("superadmin").post("/api/v1/erasures", `{"event":"`+sample(3).ID.String()+`","reason":"it has a secret"}`).want(http.StatusOK)
	files := unpacked(t, d.as("auditor").get(packagePath).want(http.StatusOK).body)
	gone := 0
	for line := range strings.Lines(files["events.ndjson"]) {
		if strings.Contains(line, `"id":"`+sample(3).ID.String()) {
			gone++
			if strings.Contains(line, "Rollback") {
				t.Errorf("what was erased is in it: %s", line)
			}
		}
	}
	if n := strings.Count(files["events.ndjson"], `"eventType":"RemediationExecuted"`); gone != 1 || n != 12 {
		t.Errorf("of %d events one was erased, and is told %d times", n, gone)
	}
	if !strings.Contains(files["controls.json"], "were erased") {
		t.Error("the controls do not say that something was erased")
	}
}

func TestAPackageOfNothingOrOfTooLittleIsRefusedOrSaysSo(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	auditor := d.as("auditor")
	for _, query := range []string{"?framework=soc3", "?framework=soc2&window=0", "?framework=soc2&from=2026-03-20&to=2026-03-19", "?framework=soc2&sample=0",
		"?framework=soc2&random_seed=x", "?framework=soc2&checkpoint=999", "?framework=soc2&format=pdf", ""} {
		auditor.get("/api/v1/compliance/evidence" + query).want(http.StatusBadRequest)
	}
	files := unpacked(t, auditor.get("/api/v1/compliance/evidence?framework=soc2&from=2020-01-01&to=2020-02-01").want(http.StatusOK).body)
	if !strings.Contains(files["events.ndjson"], `"count":0`) || !strings.Contains(files["README.html"], "The ledger begins at") {
		t.Errorf("of a window before the ledger began: %q", files["events.ndjson"])
	}
}
