package rest_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/rest"
)

// needs says what each route needs; "" is open to all.
var needs = map[string]access.Permission{
	"GET /api/v1/audit":                                                    access.Read,
	"GET /api/v1/audit/export":                                             access.Export,
	"POST /api/v1/audit/events":                                            access.Record,
	"POST /api/v1/audit/events/batch":                                      access.Record,
	"GET /api/v1/audit/events":                                             access.Read,
	"GET /api/v1/audit/events/{id}":                                        access.Read,
	"GET /api/v1/audit/events/{id}/proof":                                  access.Read,
	"POST /api/v1/audit/verify-chain":                                      access.Verify,
	"GET /api/v1/audit/verify":                                             access.Verify,
	"GET /api/v1/audit/incidents/{correlation_id}":                         access.Read,
	"POST /api/v1/audit/incidents/{correlation_id}/reconstruct":            access.Read,
	"POST /api/v1/audit/remediation-requests/{correlation_id}/reconstruct": access.Read,
	"POST /api/v1/audit/resources/reconstruct":                             access.Read,
	"GET /api/v1/compliance/evidence":                                      access.Export,
	"GET /api/v1/compliance/frameworks":                                    access.Read,
	"GET /api/v1/compliance/frameworks/{name}":                             access.Read,
	"GET /api/v1/compliance/report":                                        access.Read,
	"GET /api/v1/audit/gaps":                                               access.Read,
	"GET /api/v1/audit/legal-hold":                                         access.Read,
	"POST /api/v1/audit/legal-hold":                                        access.Hold,
	"DELETE /api/v1/audit/legal-hold":                                      access.Hold,
	"GET /api/v1/audit/legal-hold/{id}":                                    access.Read,
	"POST /api/v1/audit/legal-hold/{id}":                                   access.Hold,
	"DELETE /api/v1/audit/legal-hold/{id}":                                 access.Hold,
	"GET /api/v1/retention/plan":                                           access.Verify,
	"POST /api/v1/retention/run":                                           access.Erase,
	"POST /api/v1/erasures":                                                access.Erase,
	"POST /api/v1/erasures/plan":                                           access.Erase,
	"POST /api/v1/erasures/{id}/confirm":                                   access.Erase,
	"GET /api/v1/audit/stream":                                             access.Read,
	"POST /api/v1/ingest/kube-audit":                                       access.Record,
	"POST /api/v1/ingest/kube-audit/{cluster}":                             access.Record,
	"GET /api/v1/tokens":                                                   access.ManageToken,
	"POST /api/v1/tokens":                                                  access.ManageToken,
	"DELETE /api/v1/tokens/{name}":                                         access.ManageToken,
	"GET /log/checkpoint":                                                  access.Verify,
	"GET /log/tile/entries/{path...}":                                      access.ReadAccess,
	"GET /log/tile/{path...}":                                              access.Verify,
	"GET /metrics":                                                         access.Read,
	"GET /openapi.json":                                                    access.Read,
	"GET /healthz":                                                         "",
	"GET /readyz":                                                          "",
	"GET /api/v1/findings":                                                 access.Read,
	"GET /api/v1/findings/rules":                                           access.Read,
	"GET /api/v1/findings/{id}":                                            access.Read,
	"POST /api/v1/findings/{id}/acknowledge":                               access.Judge,
	"POST /api/v1/findings/{id}/accept":                                    access.Judge,
	"POST /api/v1/findings/{id}/resolve":                                   access.Judge,
	"POST /api/v1/findings/{id}/reopen":                                    access.Judge,
}

// may says what each role may do.
var may = map[string][]access.Permission{
	"viewer":     {access.Read, access.Export, access.Verify},
	"recorder":   {access.Record},
	"operator":   {access.Read, access.Export, access.Verify, access.Record},
	"auditor":    {access.Read, access.Export, access.Verify, access.ReadAccess},
	"admin":      {access.Read, access.Export, access.Verify, access.ReadAccess, access.Record, access.ManageToken, access.Hold, access.Judge},
	"superadmin": {access.Read, access.Export, access.Verify, access.ReadAccess, access.Record, access.ManageToken, access.Hold, access.Judge, access.Erase},
}

// requests returns how to call each route without an effect.
func requests(d *door) map[string]func(c *caller) *answer {
	list := map[string]func(c *caller) *answer{}
	for _, r := range d.rest.Routes() {
		path := strings.NewReplacer("{id}", "1", "{correlation_id}", "inc-0", "{name}", "nobody", "entries/{path...}", "entries/000.p/1", "{path...}", "0/000.p/1").Replace(r.Path)
		method := r.Method
		switch path {
		case "/api/v1/audit/stream":
			method = http.MethodHead
		case "/api/v1/retention/run":
			path += "?dryRun=true" // which is refused, for it would be a run
		}
		list[r.Method+" "+r.Path] = func(c *caller) *answer { return c.do(method, path, strings.NewReader("{}")) }
	}
	return list
}

func TestEveryRouteNeedsAToken(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	d.token(access.Token{Name: "revoked", Role: access.Superadmin})
	if err := d.tokens.Revoke("revoked"); err != nil {
		t.Fatal(err)
	}
	d.secrets["unknown"] = access.NewSecret()
	d.secrets["garbage"] = "x"
	d.secrets["long"] = strings.Repeat("x", 64<<10)
	d.secrets["other case"] = strings.ToUpper(d.secrets["superadmin"])
	d.secrets["almost"] = d.secrets["superadmin"][:46]
	d.secrets["hash"] = hashOf(t, d, "superadmin")
	calls := requests(d)
	if len(calls) != len(needs) {
		t.Fatalf("%d routes, and %d in the table", len(calls), len(needs))
	}
	d.unchanged(func() {
		for name, call := range calls {
			for _, who := range []string{"", "revoked", "unknown", "garbage", "long", "other case", "almost", "hash"} {
				a := call(d.as(who))
				if needs[name] == "" {
					a.want(http.StatusOK)
					continue
				}
				if a.want(http.StatusUnauthorized); !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
					t.Errorf("%s: WWW-Authenticate is %q", name, a.header.Get("WWW-Authenticate"))
				}
			}
		}
	})
}

// hashOf returns what the server keeps of a token.
func hashOf(t *testing.T, d *door, name string) string {
	t.Helper()
	data, err := os.ReadFile(d.tokensFile())
	if err != nil {
		t.Fatal(err)
	}
	var list []access.Token
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	return list[slices.IndexFunc(list, func(tok access.Token) bool { return tok.Name == name })].Hash
}

func TestOddCredentialsAreRefused(t *testing.T) {
	for _, anonymous := range []access.Role{"", access.Viewer} {
		d := open(t, configured(func(c *rest.Config) { c.AnonymousRole = anonymous }))
		secret := d.secrets["viewer"]
		for _, tt := range []struct {
			name    string
			headers []string
			status  int
		}{
			{"a token", []string{"Authorization", "Bearer " + secret}, 200},
			{"a token behind another case", []string{"Authorization", "bearer " + secret}, 200},
			{"a token behind two spaces", []string{"Authorization", "Bearer  " + secret}, 200},
			{"an API key", []string{"X-API-Key", secret}, 200},
			{"a token beside a bad API key", []string{"Authorization", "Bearer " + secret, "X-API-Key", "x"}, 200},
			{"a bad token beside an API key", []string{"Authorization", "Bearer x", "X-API-Key", secret}, 401},
			{"an empty token beside an API key", []string{"Authorization", "Bearer ", "X-API-Key", secret}, 401},
			{"an empty token", []string{"Authorization", "Bearer "}, 401},
			{"no token", []string{"Authorization", "Bearer"}, 401},
			{"a password", []string{"Authorization", "Basic dmlld2VyOg=="}, 401},
			{"a token as a password", []string{"Authorization", "Basic " + secret}, 401},
			{"a token without its scheme", []string{"Authorization", secret}, 401},
			{"a token with a space in it", []string{"Authorization", "Bearer " + secret[:10] + " " + secret[10:]}, 401},
			{"a scheme only", []string{"Authorization", "Digest"}, 401},
			{"64 KiB", []string{"Authorization", "Bearer " + strings.Repeat("x", 64<<10)}, 401},
			{"bytes that are no text", []string{"Authorization", "Bearer \xff\xfe"}, 401},
			{"a cookie", []string{"Cookie", "token=" + secret}, 401},
			{"a name of an identity", []string{"X-Auth-Request-User", "superadmin", "X-Remote-User", "superadmin", "X-Forwarded-User", "superadmin"}, 401},
		} {
			a := d.as("").get("/api/v1/audit", tt.headers...)
			a.what = tt.name
			want := tt.status
			if h := tt.headers[0]; want == 401 && anonymous != "" && h != "Authorization" {
				want = 200 // without credentials that count, one is nobody
			}
			if a.want(want); want == 401 {
				a.problem(401, "", "")
			}
		}
	}
}

func TestRolesMayDoWhatTheirTableSays(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	d.unchanged(func() {
		for name, call := range requests(d) {
			for role, permissions := range may {
				a := call(d.as(role))
				allowed := needs[name] == "" || slices.Contains(permissions, needs[name])
				if denied := a.status == http.StatusForbidden; denied == allowed || a.status == http.StatusUnauthorized {
					t.Errorf("%s as %s: status %d", name, role, a.status)
				} else if denied && len(a.body) > 0 {
					a.problem(http.StatusForbidden, "", string(needs[name]))
				}
			}
		}
	})
	denied := map[string]int{}
	for _, e := range d.recorded("PermissionDenied") {
		if e.Recorded.Principal != detail(e, "principal") || e.Actor.Name != e.Recorded.Principal {
			t.Errorf("denied %s, recorded for %s", detail(e, "principal"), e.Recorded.Principal)
		}
		denied[detail(e, "principal")+" "+detail(e, "permission")+" "+detail(e, "route")]++
	}
	for name, perm := range needs {
		for role, permissions := range may {
			want := 0
			if perm != "" && !slices.Contains(permissions, perm) {
				want = 1
			}
			if got := denied[role+" "+string(perm)+" "+name]; got != want {
				t.Errorf("%s as %s: %d denials recorded, want %d", name, role, got, want)
			}
		}
	}
}

func TestNamespacesBoundWhatATokenShows(t *testing.T) {
	d := open(t)
	indexes := d.as("recorder").record(samples(0, 12)...) // of production, payments, staging in turn
	team := d.token(access.Token{Name: "team", Role: access.Superadmin, Namespaces: []string{"payments"}})
	two := d.token(access.Token{Name: "two", Role: access.Auditor, Namespaces: []string{"payments", "staging"}})
	none := d.token(access.Token{Name: "none", Role: access.Superadmin, Namespaces: []string{}})

	var list struct {
		Total  int
		Events []struct {
			Resource struct{ Namespace string }
		}
	}
	var page struct {
		Data       []struct{ Namespace string }
		Pagination struct{ Total int }
	}
	for _, tt := range []struct {
		name   string
		c      *caller
		query  string
		events int
	}{
		{"one namespace", team, "", 4},
		{"two namespaces", two, "", 8},
		{"no namespace", none, "", 0},
		{"one namespace, asked for another", team, "?namespace=production", 0},
		{"one namespace, asked for it", team, "?namespace=payments", 4},
		{"one namespace, by text", team, "?q=plan", 4},
		{"one namespace, by text of another", team, "?q=production", 0},
		{"one namespace, with who read what", team, "?access=true", 4},
		{"one namespace, asked for a type of the ledger's own", team, "?type=LedgerCreated", 0},
		{"all", d.as("viewer"), "?type=RemediationExecuted", 12},
	} {
		if tt.c.get("/api/v1/audit" + tt.query).want(http.StatusOK).into(&list); list.Total != tt.events || len(list.Events) != tt.events {
			t.Errorf("%s: list of %d, total %d", tt.name, len(list.Events), list.Total)
		}
		if tt.c.get(events + tt.query).want(http.StatusOK).into(&page); page.Pagination.Total != tt.events || len(page.Data) != tt.events {
			t.Errorf("%s: page of %d, total %d", tt.name, len(page.Data), page.Pagination.Total)
		}
		if a := tt.c.get("/api/v1/audit/export" + tt.query).want(http.StatusOK); strings.Count(string(a.body), "\n") != tt.events {
			t.Errorf("%s: exported\n%s", tt.name, a.body)
		}
	}
	if team.get("/api/v1/audit").into(&list); list.Events[0].Resource.Namespace != "payments" {
		t.Errorf("got %+v", list)
	}
	for i, index := range indexes {
		want := http.StatusNotFound
		if sample(i).Resource.Namespace == "payments" {
			want = http.StatusOK
		}
		for _, name := range []string{fmt.Sprint(index), sample(i).ID.String()} {
			team.get(events + "/" + name).want(want)
			team.get(events + "/" + name + "/proof").want(want)
			none.get(events + "/" + name).want(http.StatusNotFound)
		}
	}
	team.get(events + "/0").want(http.StatusNotFound)

	// An incident spans namespaces; each sees their part of it.
	var story struct{ Total int }
	if team.get("/api/v1/audit/incidents/inc-0").want(http.StatusOK).into(&story); story.Total != 2 {
		t.Errorf("a story of %d events", story.Total)
	}
	none.get("/api/v1/audit/incidents/inc-0").want(http.StatusNotFound)
	var verdict struct {
		TotalEvents int `json:"total_events"`
	}
	if team.post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`).want(http.StatusOK).into(&verdict); verdict.TotalEvents != 2 {
		t.Errorf("a verdict on %d events", verdict.TotalEvents)
	}
	none.post("/api/v1/audit/verify-chain", `{"correlation_id":"inc-0"}`).want(http.StatusNotFound)

	// What is about all of the ledger is not for those who see a part.
	for _, c := range []*caller{team, none} {
		c.get("/api/v1/audit/verify").problem(http.StatusForbidden, "", "namespaces")
		c.get("/log/tile/entries/000.p/5").problem(http.StatusForbidden, "", "namespaces")
		c.post("/api/v1/tokens", `{"name":"x","role":"viewer"}`).problem(http.StatusForbidden, "", "namespaces")
		c.do(http.MethodDelete, "/api/v1/tokens/viewer", nil).problem(http.StatusForbidden, "", "namespaces")
	}
	if got := d.stream(t, team, "?last_event_id=-1", "").until(4); len(got) != 4 || got[0].event.Resource.Namespace != "payments" || got[3].event.ID != sample(10).ID {
		t.Errorf("streamed %+v", got)
	}
}

func TestATokenForNoNamespaceStaysOneAfterARestart(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	var made struct {
		Secret string `json:"token"`
	}
	d.as("admin").post("/api/v1/tokens", `{"name":"none","role":"viewer","namespaces":[]}`).want(http.StatusCreated).into(&made)
	p, err := d.openTokens().Authenticate(made.Secret, time.Now())
	if err != nil || p.Namespaces == nil {
		t.Errorf("after a restart: %+v, %v", p, err)
	}
}

func TestNobodyMayBeSomebody(t *testing.T) {
	d := open(t, configured(func(c *rest.Config) { c.AnonymousRole = access.Operator }))
	nobody := d.as("")
	nobody.post(events, native).want(http.StatusCreated)
	nobody.post(events, with(native, "actor.name", `"anonymous"`)).want(http.StatusCreated)
	nobody.get("/api/v1/audit").want(http.StatusOK)
	nobody.get("/api/v1/audit?access=true").problem(http.StatusForbidden, "", "access")
	nobody.get("/api/v1/tokens").problem(http.StatusForbidden, "", "tokens")
	d.secrets["wrong"] = "wrong"
	d.as("wrong").get("/api/v1/audit").problem(http.StatusUnauthorized, "", "not valid")
	for _, e := range d.recorded("IssueCreated", "AuditRead") {
		if e.Recorded.Principal != "anonymous" || e.Recorded.Via != "anonymous" || e.Recorded.Attribution != event.AttributionAsserted {
			t.Errorf("%s: %+v", e.EventType, e.Recorded)
		}
	}
}

func TestTheLogIsOpenAsFarAsItIsPublic(t *testing.T) {
	for _, tt := range []struct {
		public                      string
		checkpoint, hashes, entries int
	}{
		{"", 401, 401, 401},
		{"none", 401, 401, 401},
		{"hashes", 200, 200, 401},
		{"entries", 200, 200, 200},
	} {
		t.Run("public "+tt.public, func(t *testing.T) {
			d := open(t, configured(func(c *rest.Config) { c.PublicLog = tt.public }))
			d.as("recorder").record(samples(0, 300)...)
			for _, who := range []string{"", "recorder"} {
				other := func(status int) int {
					if who == "recorder" && status == 401 {
						return 403
					}
					return status
				}
				d.as(who).get("/log/checkpoint").want(other(tt.checkpoint))
				d.as(who).get("/log/tile/0/000").want(other(tt.hashes))
				d.as(who).get("/log/tile/1/000.p/1").want(other(tt.hashes))
				d.as(who).get("/log/tile/entries/000").want(other(tt.entries))
				d.as(who).get("/log/tile/entries/001.p/3").want(other(tt.entries))
				for _, trick := range []string{"/log/tile/entries%2f000", "/log/tile/entries%2F001.p%2F3", "/log/tile/%65ntries%2f000", "/log/tile/0/%2e%2e/entries/000", "/log/tile/./entries/000"} {
					if a := d.as(who).get(trick); a.status == 200 && tt.entries != 200 || a.status == 500 {
						t.Errorf("%s as %q: status %d", trick, who, a.status)
					}
				}
			}
			d.as("auditor").get("/log/tile/entries/000").want(http.StatusOK)
			d.as("").get("/api/v1/audit").want(http.StatusUnauthorized)
			d.as("").get(events + "/1").want(http.StatusUnauthorized)
		})
	}
}

func TestAttributionsTellWhatAnActorRestsOn(t *testing.T) {
	d := open(t)
	d.token(access.Token{Name: "alice@example.com", Role: access.Operator})
	d.token(access.Token{Name: "kube-apiserver", Role: access.Recorder, Attests: true})
	alice := with(native, "actor", `{"type":"user","name":"alice@example.com"}`)
	for _, tt := range []struct {
		name, who, path, body, want string
	}{
		{"somebody about themselves", "alice@example.com", events, alice, "authenticated"},
		{"somebody about themselves, in Kubernaut's form", "alice@example.com", events, with(with(flat, "actor_type", `"human"`), "actor_id", `"alice@example.com"`), "authenticated"},
		{"somebody about others", "recorder", events, alice, "asserted"},
		{"somebody who was told", "alice@example.com", events + "?asserted=true", alice, "asserted"},
		{"somebody who was not told", "alice@example.com", events + "?asserted=false", alice, "authenticated"},
		{"in a batch", "alice@example.com", batchRoute, alice, "authenticated"},
		{"in a batch of what was told", "alice@example.com", batchRoute + "?asserted=1", alice, "asserted"},
		{"a witness who attests", "kube-apiserver", events + "?asserted=true", alice, "admission"},
		{"one who could attest and does not", "kube-apiserver", events, alice, "asserted"},
		{"what an operator has seen", "kube-apiserver", events + "?observed=true", alice, "observed"},
		{"an API server that attests", "kube-apiserver", "/api/v1/ingest/kube-audit", kubeAuditList, "admission"},
		{"the same from one who does not", "recorder", "/api/v1/ingest/kube-audit", strings.ReplaceAll(kubeAuditList, "383eb4a1", "383eb4a2"), "asserted"},
		{"the same from its very actor", "alice@example.com", "/api/v1/ingest/kube-audit", strings.ReplaceAll(kubeAuditList, "383eb4a1", "383eb4a3"), "asserted"},
	} {
		d.as(tt.who).post(tt.path, tt.body)
		all := d.recorded()
		e := all[len(all)-1]
		if r := e.Recorded; r.Attribution != tt.want || r.Principal != tt.who || r.Via != "token" || e.Actor.Name != "alice@example.com" {
			t.Errorf("%s: %s by %s via %s, about %s", tt.name, r.Attribution, r.Principal, r.Via, e.Actor.Name)
		}
	}
}

func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	d := open(t)
	for _, role := range access.Roles() {
		for _, other := range access.Roles() {
			name := string(role) + "-" + string(other)
			want := http.StatusForbidden
			if role == access.Superadmin || role == access.Admin && other != access.Superadmin {
				want = http.StatusCreated
			}
			before := d.events()
			d.as(string(role)).post("/api/v1/tokens", `{"name":"`+name+`","role":"`+string(other)+`"}`).want(want)
			if _, made := d.tokens.Get(name); made != (want == http.StatusCreated) || d.events()-before != map[bool]int{true: 1}[made] {
				t.Errorf("%s: made %v, %d events", name, made, d.events()-before)
			}
		}
	}
	made := d.recorded("TokenCreated")
	if e := made[0]; e.Resource.Kind != "Token" || e.Resource.Name != detail(e, "name") || detail(e, "role") == "" || e.Recorded.Principal != e.Actor.Name {
		t.Errorf("recorded %s", e.AppendJSON(nil))
	}
	d.as("admin").do(http.MethodDelete, "/api/v1/tokens/superadmin-superadmin", nil).problem(http.StatusForbidden, "", "superadmin")
	d.as("admin").do(http.MethodDelete, "/api/v1/tokens/superadmin-viewer", nil).want(http.StatusNoContent)
	d.as("superadmin").do(http.MethodDelete, "/api/v1/tokens/superadmin-superadmin", nil).want(http.StatusNoContent)
	for i, e := range d.recorded("TokenRevoked") {
		if want := []string{"superadmin-viewer", "superadmin-superadmin"}[i]; e.Resource.Name != want {
			t.Errorf("revoked %s, recorded %s", want, e.Resource.Name)
		}
	}
}

func TestARevokedTokenEndsAtOnce(t *testing.T) {
	d := open(t)
	for _, name := range []string{"plain", "with space", "a/b", "..", "ü", "a%2fb"} {
		var made struct {
			Secret string `json:"token"`
		}
		body, err := json.Marshal(map[string]string{"name": name, "role": "viewer"})
		if err != nil {
			t.Fatal(err)
		}
		d.as("admin").post("/api/v1/tokens", string(body)).want(http.StatusCreated).into(&made)
		d.secrets[name] = made.Secret
		d.as(name).get("/api/v1/audit").want(http.StatusOK)
		escaped := ""
		for _, b := range []byte(name) {
			escaped += fmt.Sprintf("%%%02x", b)
		}
		d.as("admin").do(http.MethodDelete, "/api/v1/tokens/"+escaped, nil).want(http.StatusNoContent)
		d.as(name).get("/api/v1/audit").want(http.StatusUnauthorized)
		d.as("admin").do(http.MethodDelete, "/api/v1/tokens/"+escaped, nil).want(http.StatusNotFound)
	}
}

func TestASecretStandsNowhereButInItsAnswer(t *testing.T) {
	d := open(t)
	var made struct {
		Secret string `json:"token"`
	}
	d.as("superadmin").post("/api/v1/tokens", `{"name":"agent","role":"operator"}`).want(http.StatusCreated).into(&made)
	d.secrets["agent"] = made.Secret
	agent := d.as("agent")
	agent.post(events, native).want(http.StatusCreated)
	agent.post(events, native, "Idempotency-Key", "k").want(http.StatusCreated)
	agent.get("/api/v1/audit").want(http.StatusOK)
	agent.get("/api/v1/tokens").want(http.StatusForbidden)
	agent.get("/nowhere").want(http.StatusNotFound)
	list := d.as("superadmin").get("/api/v1/tokens").want(http.StatusOK).body
	whole := d.as("superadmin").get("/api/v1/audit/export").want(http.StatusOK).body
	metrics := d.as("superadmin").get("/metrics").want(http.StatusOK).body
	found := func(where string, text []byte) {
		for name, secret := range d.secrets {
			if strings.Contains(string(text), secret) || strings.Contains(string(text), strings.TrimPrefix(secret, "gvn_")) {
				t.Errorf("the token %s stands in %s", name, where)
			}
		}
	}
	found("the list of tokens", list)
	found("the ledger", whole)
	found("the metrics", metrics)
	found("the log", []byte(d.log.String()))
	if strings.Contains(string(list), hashOf(t, d, "agent")) {
		t.Error("the list of tokens tells a hash")
	}
	d.close()
	files := 0
	err := filepath.WalkDir(d.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		files++
		text, err := os.ReadFile(path)
		found(path, text)
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("%d files, %v", files, err)
	}
}

func TestAGrantIsRecordedBeforeItTakesEffect(t *testing.T) {
	d := open(t)
	// The door's tokens are kept in a file that can be made unwritable.
	if err := os.Remove(d.tokensFile()); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(d.tokensFile(), 0o700); err != nil {
		t.Fatal(err)
	}
	d.as("admin").post("/api/v1/tokens", `{"name":"agent","role":"viewer"}`).problem(http.StatusInternalServerError, "", "internal")
	d.as("admin").do(http.MethodDelete, "/api/v1/tokens/viewer", nil).problem(http.StatusInternalServerError, "", "internal")
	if _, ok := d.tokens.Get("agent"); ok || len(d.recorded("TokenCreated")) != 1 || len(d.recorded("TokenRevoked")) != 2 { // the grant was taken back
		t.Errorf("made %v, recorded %d and %d", ok, len(d.recorded("TokenCreated")), len(d.recorded("TokenRevoked")))
	}
	d.as("viewer").get("/api/v1/audit").want(http.StatusOK) // the revocation did not take effect
	if log := d.log.String(); !strings.Contains(log, "write tokens") {
		t.Errorf("the log does not say why: %s", log)
	}
}
