package app_test

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/cosign"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/app"
)

// read reads a configuration that is the given text.
func read(t *testing.T, text string) (app.Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "graven.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return app.ReadConfig(path)
}

func TestAConfigurationIsReadByTheNamesOfItsFields(t *testing.T) {
	got, err := read(t, `
# all there is
data: /var/lib/graven
listen: 0.0.0.0:8090
origin: audit.example.com/prod
tlsCert: tls.crt
tlsKey: tls.key
anonymousRole: viewer
log:
  public: hashes
strictTypes: true
tipFile: /mnt/other/tip
maxBody: 1048576
segmentSize: 134217728
shutdownTimeout: 1m30s
witnesses:
- url: https://witness.example/a
  key: k1
- {url: "http://10.0.0.1:8091", key: k2}
witnessThreshold: 1
witnessInterval: 5s
`)
	want := app.Config{Data: "/var/lib/graven", Listen: "0.0.0.0:8090", Origin: "audit.example.com/prod", TLSCert: "tls.crt", TLSKey: "tls.key", AnonymousRole: access.Viewer,
		StrictTypes: true, TipFile: "/mnt/other/tip", MaxBody: 1 << 20, SegmentSize: 128 << 20, ShutdownTimeout: app.Duration(90 * time.Second),
		Witnesses:        []app.Witness{{URL: "https://witness.example/a", Key: "k1"}, {URL: "http://10.0.0.1:8091", Key: "k2"}},
		WitnessThreshold: 1, WitnessInterval: app.Duration(5 * time.Second)}
	want.Log.Public = "hashes"
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := read(t, ""); err != nil || !reflect.DeepEqual(got, app.Config{}) {
		t.Errorf("nothing gives %+v, %v", got, err)
	}
}

func TestAConfigurationIsReadStrictly(t *testing.T) {
	for name, tt := range map[string]struct{ text, says string }{
		"an unknown field":            {"dataa: x", "dataa"},
		"an unknown field within":     {"log:\n  publik: none", "publik"},
		"another case":                {"Data: x", `"Data"`},
		"another case within":         {"log:\n  Public: none", `"log.Public"`},
		"a field in two cases":        {"data: x\nDATA: y", `"DATA"`},
		"a field twice":               {"data: x\ndata: y", "data"},
		"a flag that is none":         {"strictTypes: perhaps", "strictTypes"},
		"a number that is none":       {"maxBody: large", "maxBody"},
		"a number with a fraction":    {"segmentSize: 1.5", "segmentSize"},
		"a duration without its unit": {"shutdownTimeout: 20", "duration"},
		"a duration that is none":     {"shutdownTimeout: soon", "soon"},
		"an unknown field in a list":  {"witnesses:\n- {uri: x}", "uri"},
		"another case in a list":      {"witnesses:\n- {url: x, key: y}\n- {url: x, Key: y}", `"witnesses[1].Key"`},
		"a witness that is none":      {"witnesses: [x]", "witnesses"},
		"a list":                      {"- data", "Config"},
		"no YAML":                     {"data: [", "yaml"},
	} {
		if c, err := read(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "graven.yaml") {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	if _, err := app.ReadConfig(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestABadFieldIsNamedAndNothingIsMade(t *testing.T) {
	text, err := cosign.GenerateKey(rand.Reader, "witness.example/w1")
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := cosign.NewCosigner(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	const url = "https://witness.example/a"
	key := cosigner.Witness.String()
	witnesses := func(all ...app.Witness) func(*app.Config) { return func(c *app.Config) { c.Witnesses = all } }
	for name, tt := range map[string]struct {
		change func(*app.Config)
		says   string
	}{
		"a witness nowhere":           {witnesses(app.Witness{Key: key}), "witnesses[0].url"},
		"a witness at a file":         {witnesses(app.Witness{URL: url, Key: key}, app.Witness{URL: "file:///x", Key: key}), "witnesses[1].url"},
		"a witness at a question":     {witnesses(app.Witness{URL: url + "?x", Key: key}), "witnesses[0].url"},
		"a witness at no address":     {witnesses(app.Witness{URL: "http://a b", Key: key}), "witnesses[0].url"},
		"a witness without a key":     {witnesses(app.Witness{URL: url}), "witnesses[0].key"},
		"a witness with half a key":   {witnesses(app.Witness{URL: url, Key: key[:len(key)-4]}), "witnesses[0].key"},
		"a witness twice":             {witnesses(app.Witness{URL: url, Key: key}, app.Witness{URL: url + "b", Key: key}), "witnesses: the key"},
		"a threshold without witness": {func(c *app.Config) { c.WitnessThreshold = 1 }, "witnessThreshold"},
		"a threshold below nothing":   {func(c *app.Config) { c.WitnessThreshold = -1 }, "witnessThreshold"},
		"an interval of nothing":      {func(c *app.Config) { c.WitnessInterval = 1 }, "witnessInterval"},
		"an interval of a day":        {func(c *app.Config) { c.WitnessInterval = app.Duration(24 * time.Hour) }, "witnessInterval"},

		"no directory":            {func(c *app.Config) { c.Data = "" }, "data: required"},
		"a log that is public":    {func(c *app.Config) { c.Log.Public = "all" }, `log.public: "all"`},
		"a certificate alone":     {func(c *app.Config) { c.TLSCert = "x" }, "tlsCert and tlsKey"},
		"a key alone":             {func(c *app.Config) { c.TLSKey = "x" }, "tlsCert and tlsKey"},
		"a body below nothing":    {func(c *app.Config) { c.MaxBody = -1 }, "maxBody"},
		"a body of 2 GiB":         {func(c *app.Config) { c.MaxBody = 2 << 30 }, "maxBody"},
		"memory for no body":      {func(c *app.Config) { c.MaxMemory = 256 << 20 }, "maxMemory: at least"},
		"memory below nothing":    {func(c *app.Config) { c.MaxMemory = -1 }, "maxMemory: at least"},
		"large bodies in little":  {func(c *app.Config) { c.MaxBody, c.MaxMemory = 64<<20, 512<<20 }, "maxMemory: at least"},
		"no connections":          {func(c *app.Config) { c.MaxConnections = -1 }, "maxConnections: from 1"},
		"too many connections":    {func(c *app.Config) { c.MaxConnections = 1 << 30 }, "ulimit -n"},
		"a segment that is small": {func(c *app.Config) { c.SegmentSize = 1000 }, "segmentSize"},
		"a segment that is large": {func(c *app.Config) { c.SegmentSize = 1 << 40 }, "segmentSize"},
		"a segment below nothing": {func(c *app.Config) { c.SegmentSize = -1 }, "segmentSize"},
		"a time below nothing":    {func(c *app.Config) { c.ShutdownTimeout = -1 }, "shutdownTimeout"},
		"a role that is none":     {func(c *app.Config) { c.AnonymousRole = "king" }, "anonymousRole"},
		"an origin with a space":  {func(c *app.Config) { c.Origin = "a b" }, "origin"},
		"an origin with a plus":   {func(c *app.Config) { c.Origin = "a+b" }, "origin"},
		"an address that is none": {func(c *app.Config) { c.Listen = "nowhere" }, "listen"},
		"a port that is none":     {func(c *app.Config) { c.Listen = "127.0.0.1:99999" }, "listen"},
	} {
		t.Run(name, func(t *testing.T) {
			c := config(t)
			dir := c.Data
			tt.change(&c)
			if _, err := try(c); err == nil || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %s", err, tt.says)
			}
			if _, err := os.Stat(filepath.Join(dir, "log")); err == nil {
				t.Error("a ledger was made")
			}
		})
	}
}
