package charts_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/app"
	"github.com/graven-audit/graven/internal/datadir"
	"github.com/graven-audit/graven/internal/postgres"
	"github.com/graven-audit/graven/internal/testenv"
)

// metrics are the names of metrics with the names of their labels.
type metrics map[string]map[string]bool

// targets are the labels that Prometheus adds.
var targets = []string{"instance", "job", "namespace", "pod", "service"}

// operators are the metrics that graven-operator serves, as its own tests find them.
func operators() metrics {
	m := metrics{}
	for _, name := range strings.Fields(`sealed_total refused_total copies_total lost_unsealed_total mirrored_total mirror_lag_entries
		pruned_total unmirrored_total requests_total unsealed immutability_rung schema_degraded`) {
		m["graven_operator_"+name] = map[string]bool{}
	}
	for label, names := range map[string]string{
		"policy":   `capture_recorded_total capture_failed_total admission_recorded_total admission_refused_total admission_failed_total admission_lost_total`,
		"resource": `capture_gaps_total`, "le": `admission_seconds_bucket`, "verdict": `auditlog_verdicts_total`, "": `admission_gaps_total auditlog_requests_total auditlog_covered`,
	} {
		for _, name := range strings.Fields(names) {
			m["graven_"+name] = map[string]bool{label: true}
		}
	}
	return m
}

// serve starts a server and returns the metrics that it serves.
func serve(t *testing.T, c app.Config) metrics {
	t.Helper()
	c.Listen = "127.0.0.1:0"
	a, err := app.New(t.Context(), c, "test", slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	token, err := os.ReadFile(filepath.Join(c.Data, datadir.AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) string {
		req, err := http.NewRequest(http.MethodGet, a.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-API-Key", strings.TrimSpace(string(token)))
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d %s %v", path, resp.StatusCode, body, err)
		}
		return string(body)
	}
	get("/api/v1/audit")
	found := metrics{}
	sample := regexp.MustCompile(`(?m)^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? `)
	label := regexp.MustCompile(`(\w+)="`)
	testenv.Eventually(t, "witnesses were asked", func() bool {
		text := get("/metrics")
		for _, m := range sample.FindAllStringSubmatch(text, -1) {
			if found[m[1]] == nil {
				found[m[1]] = map[string]bool{}
			}
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				found[m[1]][l[1]] = true
			}
		}
		return len(c.Witnesses) == 0 || found["graven_witness_failures_total"] != nil
	})
	return found
}

// served are the metrics of servers of each kind, and of the operator.
func served(t *testing.T) metrics {
	t.Helper()
	text, err := cosign.GenerateKey(rand.Reader, "w.example/1")
	if err != nil {
		t.Fatal(err)
	}
	witness, err := cosign.NewCosigner(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := serve(t, app.Config{Data: filepath.Join(t.TempDir(), "data"), SegmentSize: 1 << 20,
		Witnesses: []app.Witness{{URL: "http://127.0.0.1:1", Key: witness.Witness.String()}}})
	server := testenv.StartPostgres(t)
	database := server.Database()
	if _, _, err := postgres.Migrate(t.Context(), server.DSN(database, "postgres")); err != nil {
		t.Fatal(err)
	}
	server.SQL(database, "CREATE ROLE app LOGIN; GRANT graven_writer TO app")
	maps.Copy(all, serve(t, app.Config{Data: filepath.Join(t.TempDir(), "data"), Store: server.DSN(database, "app"),
		Spool: app.Spool{Directory: t.TempDir(), Persistent: true}}))
	maps.Copy(all, operators())
	return all
}

// asks returns what is wrong with an expression, where there are those metrics.
func asks(expr string, have metrics) error {
	e, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		return err
	}
	var wrong error
	parser.Inspect(e, func(n parser.Node, _ []parser.Node) error {
		v, ok := n.(*parser.VectorSelector)
		if !ok {
			return nil
		}
		of, ok := have[v.Name]
		if !ok {
			wrong = fmt.Errorf("there is no metric %s", v.Name)
		}
		for _, m := range v.LabelMatchers {
			if m.Name != "__name__" && !of[m.Name] && !slices.Contains(targets, m.Name) {
				wrong = fmt.Errorf("%s has no label %s", v.Name, m.Name)
			}
		}
		return nil
	})
	return wrong
}

func TestAlertsAndDashboardAskForMetricsThatThereAre(t *testing.T) {
	have := served(t)
	t.Run("what there is not is noticed", func(t *testing.T) {
		for _, bad := range []string{"graven_nothing > 0", `graven_ledger_size{who="me"}`, "graven_ledger_size >"} {
			if asks(bad, have) == nil {
				t.Errorf("%s is taken", bad)
			}
		}
	})
	t.Run("alerts", func(t *testing.T) { alerts(t, have) })
	t.Run("dashboard", func(t *testing.T) { dashboard(t, have) })
}

func alerts(t *testing.T, have metrics) {
	text, err := os.ReadFile(filepath.Join(dir, "files", "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if err := asks(r.Expr, have); err != nil {
				t.Errorf("%s: %v", r.Alert, err)
			}
			if seen[r.Alert] || !strings.HasPrefix(r.Alert, "Graven") {
				t.Errorf("%s stands twice, or is not named for Graven", r.Alert)
			}
			seen[r.Alert] = true
			if !slices.Contains([]string{"critical", "warning", "info"}, r.Labels["severity"]) {
				t.Errorf("%s: severity %q", r.Alert, r.Labels["severity"])
			}
			for _, name := range []string{"summary", "description", "runbook_url"} {
				if r.Annotations[name] == "" {
					t.Errorf("%s has no %s", r.Alert, name)
				}
			}
			leads(t, r.Annotations["runbook_url"])
		}
	}
	if len(seen) < 10 {
		t.Errorf("there are %d alerts", len(seen))
	}
}

// leads demands that an address leads to a heading of a page.
func leads(t *testing.T, url string) {
	t.Helper()
	path, heading, ok := strings.Cut(strings.TrimPrefix(url, "https://github.com/graven-audit/graven/blob/main/"), "#")
	page, err := os.ReadFile(filepath.Join("..", path))
	if err != nil || !ok {
		t.Errorf("%s leads nowhere: %v", url, err)
		return
	}
	for line := range strings.Lines(string(page)) {
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && line[0] == '#' {
			if strings.NewReplacer(" ", "-", "'", "").Replace(strings.ToLower(strings.TrimSpace(title))) == heading {
				return
			}
		}
	}
	t.Errorf("%s has no heading %s", path, heading)
}

func dashboard(t *testing.T, have metrics) {
	text, err := os.ReadFile(filepath.Join(dir, "files", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID    string
		Panels []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d stands twice, or has no title", p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if taken[at] != "" || at[0] > 23 {
					t.Errorf("%q covers %q, or leaves the board", p.Title, taken[at])
				}
				taken[at] = p.Title
			}
		}
		if (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("%q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			if err := asks(strings.ReplaceAll(target.Expr, "$__rate_interval", "5m"), have); err != nil {
				t.Errorf("%q: %v", p.Title, err)
			}
		}
	}
	if board.UID == "" || len(ids) < 10 {
		t.Errorf("the board has %d panels", len(ids))
	}
}
