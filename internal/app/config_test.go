package app_test

import (
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
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

// witnessKey makes the public key of a witness.
func witnessKey(t testing.TB, name string) string {
	t.Helper()
	text, err := cosign.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := cosign.NewCosigner(text, nil)
	if err != nil {
		t.Fatal(err)
	}
	return cosigner.Witness.String()
}

func TestAConfigurationIsReadByTheNamesOfItsFields(t *testing.T) {
	k1, k2 := witnessKey(t, "w.example/1"), witnessKey(t, "w.example/2")
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
  key: `+k1+`
- {url: "http://10.0.0.1:8091", key: `+k2+`}
witnessThreshold: 1
witnessInterval: 5s
`)
	want := app.Config{Data: "/var/lib/graven", Listen: "0.0.0.0:8090", Origin: "audit.example.com/prod", TLSCert: "tls.crt", TLSKey: "tls.key", AnonymousRole: access.Viewer,
		StrictTypes: true, TipFile: "/mnt/other/tip", MaxBody: 1 << 20, SegmentSize: 128 << 20, ShutdownTimeout: 90 * time.Second,
		Witnesses:        []app.Witness{{URL: "https://witness.example/a", Key: k1}, {URL: "http://10.0.0.1:8091", Key: k2}},
		WitnessThreshold: 1, WitnessInterval: 5 * time.Second}
	want.Log.Public = "hashes"
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if got, err := read(t, ""); err != nil || !reflect.DeepEqual(got, app.Config{}) {
		t.Errorf("nothing gives %+v, %v", got, err)
	}
}

func TestAConfigurationIsReadStrictly(t *testing.T) {
	key := witnessKey(t, "w.example/1")
	for name, tt := range map[string]struct{ text, says string }{
		"an unknown field":            {"data: x\ndataa: x", `line 2: unknown field "dataa"; there are data, store, spool, deadLetter, listen`},
		"an unknown field within":     {"log:\n  publik: none", `line 2: unknown field "log.publik"; there are public`},
		"another case":                {"Data: x", `line 1: unknown field "Data"`},
		"another case within":         {"log:\n  Public: none", `line 2: unknown field "log.Public"`},
		"a field in two cases":        {"data: x\nDATA: y", `line 2: unknown field "DATA"`},
		"a field twice":               {"data: x\ndata: y", "line 2: data stands in line 1 already"},
		"a field twice within":        {"log: {public: none, public: hashes}", "line 1: log.public stands in line 1 already"},
		"a name that is a list":       {"[data]: x", "line 1: unknown field"},
		"what is merged":              {"<<: {data: x}", `line 1: unknown field "<<"`},
		"a number with a fraction":    {"\nsegmentSize: 1.5", "line 2: segmentSize: not a whole number from 1 on"},
		"a number that is too large":  {"maxBody: 99999999999999999999", "line 1: maxBody: not a whole number from 1 on"},
		"a duration without its unit": {"shutdownTimeout: 20", "line 1: shutdownTimeout: not a duration longer than 0s, such as 20s"},
		"a duration that is none":     {"# x\nshutdownTimeout: abc", "line 2: shutdownTimeout: not a duration longer than 0s, such as 20s"},
		"a duration of nothing":       {"shutdownTimeout: 0s", "line 1: shutdownTimeout: not a duration longer than 0s"},
		"an unknown field in a list":  {"witnesses:\n- {uri: x}", `line 2: unknown field "witnesses[0].uri"; there are url, key`},
		"another case in a list":      {"witnesses:\n- {url: x, key: y}\n- {url: x, Key: y}", `line 3: unknown field "witnesses[1].Key"`},
		"a witness that is none":      {"witnesses: [x]", "line 1: witnesses[0]: not a list of names and their values: url, key"},
		"a list in itself":            {"witnesses: &a\n- *a", "line 2: witnesses[0]: not a list of names"},
		"a list":                      {"- data", "line 1: not a list of names and their values: data, store, spool, deadLetter, listen"},
		"a text":                      {"data", "line 1: not a list of names"},
		"no YAML":                     {"data: [", "yaml: line 1"},
		"two documents":               {"data: x\n---\ndata: y", "line 2: there is more than one document"},

		"a body of 2 GiB":               {"data: x\nmaxBody: 2147483648", "line 2: maxBody: from 1 to 1073741824 bytes"},
		"too many connections":          {"maxConnections: 1000000000", "line 1: maxConnections: at most"},
		"too little memory":             {"maxMemory: 1", "line 1: maxMemory: at least"},
		"a segment that is small":       {"segmentSize: 9", "line 1: segmentSize: from 65536"},
		"an address that is none":       {"\n\nlisten: nowhere", "line 3: listen: HOST:PORT"},
		"a role that is none":           {"anonymousRole: king", "line 1: anonymousRole: "},
		"a log that is public":          {"log:\n  public: all", `line 2: log.public: "all" is none of none, hashes, entries`},
		"a certificate alone":           {"tlsCert: x", "line 1: tlsCert: no use without tlsKey"},
		"a key alone":                   {"tlsKey: x", "line 1: tlsKey: no use without tlsCert"},
		"plain HTTP alone":              {"plainListen: :8080\nanonymousRole: viewer", "line 1: plainListen: no use without tlsCert and anonymousRole"},
		"plain HTTP for nobody":         {"plainListen: :8080\ntlsCert: x\ntlsKey: x", "line 1: plainListen: no use without tlsCert and anonymousRole"},
		"plain HTTP nowhere":            {"plainListen: nowhere\nanonymousRole: viewer\ntlsCert: x\ntlsKey: x", "line 1: plainListen: HOST:PORT"},
		"a witness nowhere":             {"witnesses:\n- url: http://x\n  key: " + key + "\n- url: x\n  key: " + key, `line 4: witnesses[1].url: "x" is not an address`},
		"a witness without its address": {"witnesses:\n- key: " + key, `witnesses[0].url: "" is not an address`},
		"a witness without its key":     {"witnesses:\n- url: http://x\n  key: x", "line 3: witnesses[0].key: not a witness's key"},
		"a threshold beyond all":        {"witnessThreshold: 1", "line 1: witnessThreshold: from 1 to the number of witnesses, 0"},
		"a policy that says nothing":    {"retention:\n  policies:\n  - name: x", ": retention.policies[0].entryDays: required"},
		"a policy that is no condition": {"retention:\n  policies:\n  - name: x\n    entryDays: 1\n    match: event.nope", "line 5: retention.policies[0].match: line 1, column 6"},
		"three who must confirm":        {"erasure:\n  confirmations: 3", "line 2: erasure.confirmations: 1 or 2"},
		"an interval of a day":          {"witnessInterval: 24h", "line 1: witnessInterval: from 10ms to 1h"},
	} {
		if c, err := read(t, tt.text); err == nil || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "graven.yaml") {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	if _, err := app.ReadConfig(filepath.Join(t.TempDir(), "none.yaml")); err == nil || !strings.Contains(err.Error(), "none.yaml") {
		t.Errorf("a file that is not there: %v", err)
	}
	for name, text := range map[string]string{"nothing": "", "a comment": "# data: x\n", "null": "null\n", "a document of nothing": "---\n"} {
		if c, err := read(t, text); err != nil || !reflect.DeepEqual(c, app.Config{}) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

// TestAFieldOfAnotherFormIsNamedWithItsLine gives each field of the configuration
// each form that it does not have.
func TestAFieldOfAnotherFormIsNamedWithItsLine(t *testing.T) {
	forms := map[string]string{"a list": "[1]", "a mapping": "{a: b}", "nothing": "", "null": "null", "a text": "quite another", "a number": "12", "zero": "0",
		"a number below zero": "-1", "a fraction": "1.5", "a truth": "true", "a truth of old": "yes", "a date": "2026-03-19", "a number in quotes": `"12"`, "bytes": "!!binary aGFsbG8=", "a tag": "!mine x"}
	takes := map[reflect.Kind][]string{reflect.Bool: {"a truth"}, reflect.Int: {"a number"}, reflect.Int64: {"a number"}, reflect.String: {"a text", "a truth of old", "a number in quotes"},
		reflect.Struct: {"a mapping"}, reflect.Slice: {"a list"}}
	goTypes := regexp.MustCompile(`int64|float|bool|string|Config|struct|json|unmarshal|Duration|map\[|\[\]`)
	fields := 0
	var each func(of reflect.Type, prefix, field string)
	each = func(of reflect.Type, prefix, field string) {
		indent := strings.ReplaceAll(prefix[strings.LastIndex(prefix, "\n")+1:], "-", " ")
		for i := range of.NumField() {
			f := of.Field(i)
			name := f.Tag.Get("yaml")
			if name == "" {
				continue
			}
			fields++
			for what, text := range forms {
				if slices.Contains(takes[f.Type.Kind()], what) && f.Type != reflect.TypeFor[time.Duration]() {
					continue
				}
				_, err := read(t, "# what follows is wrong\n"+prefix+name+": "+text+"\n")
				line := fmt.Sprintf("line %d: %s%s: not ", 2+strings.Count(prefix, "\n"), field, name)
				if err == nil || !strings.Contains(err.Error(), line) || goTypes.MatchString(strings.ReplaceAll(err.Error(), t.TempDir(), "")) {
					t.Errorf("%s: %s: %v, want %q", name, what, err, line)
				}
			}
			switch f.Type.Kind() {
			case reflect.Struct:
				each(f.Type, prefix+name+":\n"+indent+"  ", field+name+".")
			case reflect.Slice:
				if f.Type.Elem().Kind() != reflect.Struct {
					continue
				}
				each(f.Type.Elem(), prefix+name+":\n"+indent+"- ", field+name+"[0].")
			}
		}
	}
	each(reflect.TypeFor[app.Config](), "", "")
	if fields < 20 {
		t.Errorf("only %d fields", fields)
	}
}

func TestABadFieldIsNamedAndNothingIsMade(t *testing.T) {
	const url = "https://witness.example/a"
	key := witnessKey(t, "witness.example/w1")
	witnesses := func(all ...app.Witness) func(*app.Config) { return func(c *app.Config) { c.Witnesses = all } }
	spooling := func(s app.Spool) func(*app.Config) {
		return func(c *app.Config) { c.Store, c.Spool = "postgres://localhost/none", s }
	}
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
		"an interval of a day":        {func(c *app.Config) { c.WitnessInterval = 24 * time.Hour }, "witnessInterval"},

		"a spool for a directory":   {func(c *app.Config) { c.Spool = app.Spool{Directory: "x", Persistent: true} }, "spool: for a ledger in a database"},
		"a spool nowhere":           {spooling(app.Spool{Persistent: true}), "spool.directory: required"},
		"a spool that goes away":    {spooling(app.Spool{Directory: "x"}), "spool.persistent: say true"},
		"a spool that is small":     {spooling(app.Spool{Directory: "x", Persistent: true, MaxBytes: 1}), "spool.maxBytes"},
		"a spool that is below all": {spooling(app.Spool{Directory: "x", Persistent: true, MaxBytes: -1}), "spool.maxBytes"},

		"a stream for a directory": {func(c *app.Config) { c.DeadLetter = "redis://localhost" }, "deadLetter: for a ledger in a database"},
		"a stream beside a spool": {func(c *app.Config) {
			spooling(app.Spool{Directory: "x", Persistent: true})(c)
			c.DeadLetter = "redis://localhost"
		}, "deadLetter: no use beside"},

		"no directory":            {func(c *app.Config) { c.Data = "" }, "data: required"},
		"a log that is public":    {func(c *app.Config) { c.Log.Public = "all" }, `log.public: "all"`},
		"a certificate alone":     {func(c *app.Config) { c.TLSCert = "x" }, "no use without"},
		"a key alone":             {func(c *app.Config) { c.TLSKey = "x" }, "no use without"},
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
