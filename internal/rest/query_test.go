package rest_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
)

// TestABadParameterIsNamedAndNeverPassedOver asks all routes that take filters.
func TestABadParameterIsNamedAndNeverPassedOver(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 5)...)
	for _, tt := range []struct{ name, query, param string }{
		{"an unknown one", "?colour=red", "colour"},
		{"one in another case", "?Severity=high", "Severity"},
		{"one given twice", "?severity=high&severity=low", "severity"},
		{"an alias given twice", "?event_type=a&event_type=b", "event_type"},
		{"one and its alias", "?from=2026-01-01&since=2026-01-01", "since"},
		{"two aliases", "?correlationId=a&correlation-id=a", "correlationId"},
		{"a severity that is none", "?severity=loud", "severity"},
		{"one good severity and a bad one", "?severity=high,loud", "severity"},
		{"an outcome that is none", "?event_outcome=maybe", "event_outcome"},
		{"a time that is none", "?from=yesterday", "from"},
		{"a time without a zone", "?from=2026-03-19T14:30:00", "from"},
		{"a zone with a plus that means a space", "?from=2026-03-19T14:30:00+02:00", "from"},
		{"an age of less than nothing", "?since=-24h", "since"},
		{"an endless age", "?since=infd", "since"},
		{"from after to", "?from=2026-03-20&to=2026-03-19", "from"},
		{"a value without its key", "?detail_value=x", "detail_key"},
		{"a key without its value", "?detail_key=x", "detail_value"},
		{"an access that is neither", "?access=perhaps", "access"},
		{"a variable that was not set", "?actor=", "actor"},
		{"a list of nothing", "?type=,%20,", "type"},
		{"an empty time", "?from=&to=2026-03-19", "from"},
		{"a name without a value", "?severity", "severity"},
		{"a value that is too long", "?actor=" + strings.Repeat("x", 513), "actor"},
		{"a value with NUL", "?actor=a%00b", "actor"},
		{"a value that is not UTF-8", "?actor=%ff", "actor"},
		{"an escape that is none", "?actor=%zz", "query"},
		{"an escape that is cut off", "?actor=%2", "query"},
		{"semicolons", "?actor=a;type=b", "query"},
		{"an escaped name", "?%61ctor=a&actor=b", "actor"},
		{"an empty name", "?=x", ""},
	} {
		for _, route := range []string{"/api/v1/audit", events, "/api/v1/audit/export", "/api/v1/audit/stream"} {
			a := d.as("auditor").get(route + tt.query)
			a.what = tt.name + " to " + route
			a.problem(http.StatusBadRequest, tt.param, "")
		}
	}
	for _, tt := range []struct{ name, query, param string }{
		{"a limit of nothing", "?limit=0", "limit"},
		{"a limit below it", "?limit=-1", "limit"},
		{"a limit above a thousand", "?limit=1001", "limit"},
		{"a limit in words", "?limit=ten", "limit"},
		{"a limit with a fraction", "?limit=1.5", "limit"},
		{"a limit beyond all numbers", "?limit=99999999999999999999", "limit"},
		{"an empty limit", "?limit=", "limit"},
		{"an offset below nothing", "?offset=-1", "offset"},
		{"an offset in words", "?offset=x", "offset"},
		{"a cursor that no answer gave", "?cursor=abc", "cursor"},
		{"a cursor below nothing", "?cursor=-1", "cursor"},
		{"an order that is none", "?order=random", "order"},
	} {
		for _, route := range []string{"/api/v1/audit", events, "/api/v1/audit/export", "/api/v1/audit/stream"} {
			if tt.query == "?limit=1001" && route != "/api/v1/audit" && route != events {
				continue // these are not held in memory
			}
			a := d.as("auditor").get(route + tt.query)
			a.what = tt.name + " to " + route
			a.problem(http.StatusBadRequest, tt.param, "")
		}
	}
	for _, tt := range []struct{ name, path, param string }{
		{"a format that is none", "/api/v1/audit/export?format=xml", "format"},
		{"a checkpoint that is neither", "/api/v1/audit/export?checkpoint=maybe", "checkpoint"},
		{"a checkpoint in CSV", "/api/v1/audit/export?checkpoint=true&format=csv", "checkpoint"},
		{"a format twice", "/api/v1/audit/export?format=csv&format=csv", "format"},
		{"an index that is none", "/api/v1/audit/verify?first=x", "first"},
		{"an index below nothing", "/api/v1/audit/verify?last=-1", "last"},
		{"an index twice", "/api/v1/audit/verify?first=1&first=2", "first"},
		{"an end before the beginning", "/api/v1/audit/verify?first=3&last=2", "first"},
		{"an end past the ledger's", "/api/v1/audit/verify?last=100000", "last"},
		{"a range with a semicolon", "/api/v1/audit/verify?first=1;last=2", "query"},
		{"a parameter for one event", events + "/1?x=1", "x"},
		{"a malformed one for one event", events + "/1?%zz", "query"},
		{"a parameter for a proof", events + "/1/proof?x=1", "x"},
		{"a parameter for an incident", "/api/v1/audit/incidents/inc-0?x=1", "x"},
		{"a place to go on that is none", "/api/v1/audit/stream?last_event_id=x", "Last-Event-ID"},
		{"a place past the end", "/api/v1/audit/stream?last_event_id=1000000", "Last-Event-ID"},
		{"a place before -1", "/api/v1/audit/stream?last_event_id=-2", "Last-Event-ID"},
	} {
		a := d.as("auditor").get(tt.path)
		a.what = tt.name
		a.problem(http.StatusBadRequest, tt.param, "")
	}
	d.unchanged(func() {
		for _, query := range []string{"?asserted=perhaps", "?asserted=true&asserted=false", "?asserted", "?Asserted=true", "?asserted=true;x=1", "?asserted=%zz"} {
			for _, route := range []string{events, batchRoute} {
				if a := d.as("recorder").post(route+query, native).want(http.StatusBadRequest); !strings.Contains(string(a.body), `"param"`) {
					t.Errorf("%s: %s", query, a.body)
				}
			}
		}
	})
}

func TestEveryFilterNarrowsTheAnswer(t *testing.T) {
	d := open(t)
	rich := sample(1)
	rich.Cluster, rich.Outcome, rich.Category, rich.Severity, rich.EventType, rich.Actor.Name = "east", "failure", "special", "low", "IssueCreated", "alice"
	rich.Resource = event.Resource{Kind: "Issue", Name: `say "hi"`, Namespace: "payments"}
	if err := rich.SetDetails(map[string]any{"n": 7, "text": "a b", "obj": map[string]int{"x": 1}}); err != nil {
		t.Fatal(err)
	}
	d.as("recorder").record(sample(0), rich, sample(5))
	for _, query := range []string{"type=IssueCreated", "type=issue_created,AnomalyDetected", "category=special", "severity=low", "severity=notice", "outcome=failed", "actor=alice",
		"namespace=payments", "kind=Issue", "resource=say+%22hi%22", "cluster=east", "q=ALICE", "q=say+%22hi%22", "q=%22kind%22:%22Issue%22", "detail_key=n&detail_value=7",
		"detail_key=text&detail_value=a+b", "detail_key=obj&detail_value=%7B%22x%22:1%7D", "from=2026-03-19T14:30:01.123Z&to=2026-03-19T14:30:01.123Z",
		"event_type=IssueCreated&event_category=special&event_outcome=failure&actor_id=alice&cluster_id=east&resource_type=Issue&resource_id=say+%22hi%22"} {
		var list struct {
			Total, Returned int
			Events          []struct{ ID string }
		}
		d.as("viewer").get("/api/v1/audit?" + query).want(http.StatusOK).into(&list)
		if list.Total != 1 || list.Returned != 1 || list.Events[0].ID != rich.ID.String() {
			t.Errorf("%s: %+v", query, list)
		}
	}
}

func TestCursorsGoThroughAnAnswerWhileItGrows(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 95)...)
	for _, order := range []string{"desc", "asc"} {
		t.Run(order, func(t *testing.T) {
			seen := map[string]int{}
			query := url.Values{"type": {"RemediationExecuted"}, "limit": {"10"}, "order": {order}}
			for page := 0; page < 50; page++ {
				var list struct {
					Next   string
					Events []struct{ Name, ID string }
				}
				d.as("viewer").get("/api/v1/audit?" + query.Encode()).want(http.StatusOK).into(&list)
				for _, e := range list.Events {
					seen[e.ID]++
				}
				if list.Next == "" {
					break
				}
				query.Set("cursor", list.Next)
				d.as("recorder").record(sample(1000 + page + 100*len(order)))
			}
			for n := range 95 {
				if id := sample(n).ID.String(); seen[id] != 1 {
					t.Fatalf("event %d was seen %d times", n, seen[id])
				}
			}
		})
	}
	var list struct {
		Returned int
		Next     string
	}
	d.as("viewer").get("/api/v1/audit?order=asc&cursor=9223372036854775807").want(http.StatusOK).into(&list)
	if list.Returned != 0 || list.Next != "" {
		t.Errorf("behind the last: %+v", list)
	}
}

// TestAnAnswerOfLargeEventsIsBounded records 17 MiB and asks for all of it.
func TestAnAnswerOfLargeEventsIsBounded(t *testing.T) {
	d := open(t)
	const many = 70
	for n := 0; n < many; n += 10 {
		d.as("recorder").record(large(t, n, 10, 250<<10)...)
	}
	seen, query := 0, "/api/v1/audit?limit=1000&type=RemediationExecuted"
	for next := ""; ; {
		a := d.as("viewer").get(query + next).want(http.StatusOK)
		if len(a.body) > 18<<20 {
			t.Fatalf("an answer of %d MiB", len(a.body)>>20)
		}
		var list struct {
			Total, Returned int
			Next            string
		}
		a.into(&list)
		seen += list.Returned
		if list.Total != many {
			t.Errorf("total %d", list.Total)
		}
		if list.Next == "" {
			break
		}
		next = "&cursor=" + list.Next
	}
	if seen != many {
		t.Errorf("%d events in all parts, want %d", seen, many)
	}
}

func TestWhatIsNotThereIsNotFound(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	for path, status := range map[string]int{
		events + "/019310a2-7a3c-7000-8000-0000000000ff":       404,
		events + "/019310a2-7a3c-7000-8000-0000000000ff/proof": 404,
		events + "/4711": 404, events + "/-1": 404, events + "/9223372036854775807": 404, events + "/9223372036854775808": 400,
		events + "/4711/proof": 404, events + "/x": 400, events + "/x/proof": 400, events + "/audit-1710856200-a7f3b2": 400,
		events + "/00000000-0000-0000-0000-000000000000": 404,
		"/api/v1/audit/incidents/nothing":                404, "/api/v1/audit/incidents/" + strings.Repeat("x", 600): 400,
		"/log/tile/0/001": 404, "/log/tile/entries/000.p/200": 404,
		"/": 404, "/api": 404, "/api/v1": 404, "/api/v1/audit/": 404, "/api/v2/audit": 404, "/console": 404, "/log/": 404, "/debug/pprof/": 404, "/.env": 404,
	} {
		a := d.as("superadmin").get(path).want(status)
		if got := a.header.Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

// TestTricksWithPathsLeadNowhere sends paths as no client would.
func TestTricksWithPathsLeadNowhere(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 300)...)
	for _, tt := range []struct {
		path string
		want []int
	}{
		{events + "/..%2ftokens", []int{400}},
		{events + "/%2e%2e/%2e%2e/tokens", []int{404}},
		{events + "/../../tokens", []int{307}},
		{events + "//1", []int{307}},
		{events + "/./1", []int{307}},
		{events + "/1%00", []int{400}},
		{events + "/1%0d%0aX-Evil:%201", []int{400}},
		{events + "/1%2fproof", []int{400}},
		{events + "/%zz", []int{400}},
		{events + "/1/proof/x", []int{404}},
		{events + "/" + strings.Repeat("1", 5000), []int{400}},
		{"/api/v1/audit/incidents/%2e%2e", []int{404}},
		{"/api/v1/audit/incidents/a%2fb", []int{404}},
		{"/api/v1/audit/incidents/%00", []int{404}},
		{"/api/v1/audit/incidents/%ff", []int{404}},
		{"/api/v1/audit/incidents/", []int{404}},
		{"/log/tile/0/000", []int{200}},
		{"/log/tile/0/001.p/45", []int{200}},
		{"/log/tile/entries/000", []int{200}},
		{"/log/tile/0/000.p/256", []int{404}},
		{"/log/tile/0/000.p/0", []int{404}},
		{"/log/tile/0/000.p/-1", []int{404}},
		{"/log/tile/0/0", []int{404}},
		{"/log/tile/0/x000/000", []int{404}},
		{"/log/tile/00/000", []int{404}},
		{"/log/tile/8/0/000", []int{404}},
		{"/log/tile/data/000", []int{404}},
		{"/log/tile/entries%2f000", []int{404}},
		{"/log/tile/entries%2F000.p%2f5", []int{404}},
		{"/log/tile/%65ntries/000", []int{404}},
		{"/log/tile/0%2f000", []int{404}},
		{"/log/tile/0/00%30", []int{404}},
		{"/log/tile/0/%2e%2e/000", []int{404}},
		{"/log/tile/0/000%00", []int{404}},
		{"/log/tile/entries/../0/000", []int{307}},
		{"/log/tile/../checkpoint", []int{307}},
		{"/log/tile/-1/000", []int{404}},
		{"/log/tile/1/000.p/1", []int{200}},
		{"/log/tile/63/000", []int{404}},
		{"/log/tile/64/000", []int{404}},
		{"/log/tile/99999999999999999999/000", []int{404}},
		// Numbers that wrap around when they are multiplied by a tile's width.
		{"/log/tile/entries/x072/x057/x594/x037/x927/936", []int{404}},
		{"/log/tile/0/x072/x057/x594/x037/x927/936", []int{404}},
		{"/log/tile/entries/x036/x028/x797/x018/x963/968", []int{404}},
		{"/log/tile/entries/x999/x999/x999/x999/x999/x999/x999/999", []int{404}},
	} {
		status, head := raw(t, d, "GET "+tt.path+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+d.secrets["superadmin"]+"\r\nConnection: close\r\n\r\n")
		if !slices.Contains(tt.want, status) || strings.Contains(head, "X-Evil") {
			t.Errorf("%.100s: status %d, want %v\n%s", tt.path, status, tt.want, head)
		}
	}
	if log := d.log.String(); strings.Contains(log, "panic") || strings.Contains(log, "request failed") {
		t.Error(log)
	}
}

// raw sends bytes and returns the status and the headers that come back.
func raw(t *testing.T, d *door, request string) (int, string) {
	t.Helper()
	conn, err := net.Dial("tcp", d.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, fmt.Sprint(resp.Header)
}

func TestMethodsThatARouteHasNotAreNamed(t *testing.T) {
	d := open(t)
	all := []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions, "PROPFIND"}
	for _, r := range d.rest.Routes() {
		path := strings.NewReplacer("{id}", "1", "{correlation_id}", "inc-0", "{name}", "x", "{path...}", "0/000").Replace(r.Path)
		var has []string
		for _, method := range all {
			req, err := http.NewRequest(method, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, pattern := theSpec(t).mux.Handler(req); pattern != "" {
				has = append(has, method)
			}
		}
		for _, method := range all {
			if slices.Contains(has, method) {
				continue
			}
			a := d.as("").do(method, path, nil).want(http.StatusMethodNotAllowed)
			if got := strings.Split(a.header.Get("Allow"), ", "); !slices.Equal(got, has) {
				t.Errorf("%s %s: Allow says %v, there is %v", method, path, got, has)
			}
			if method != http.MethodHead {
				a.problem(http.StatusMethodNotAllowed, "", "there is")
			}
		}
	}
}

func TestHEADIsGETWithoutABody(t *testing.T) {
	d := open(t)
	d.as("recorder").record(samples(0, 3)...)
	for _, path := range []string{"/api/v1/audit", events, events + "/1", events + "/1/proof", "/api/v1/audit/incidents/inc-0", "/api/v1/audit/export", "/api/v1/audit/stream",
		"/api/v1/tokens", "/log/checkpoint", "/log/tile/0/000.p/1", "/metrics", "/openapi.json", "/healthz", "/readyz"} {
		a := d.as("superadmin").do(http.MethodHead, path, nil).want(http.StatusOK)
		if len(a.body) > 0 || a.header.Get("Content-Type") == "" {
			t.Errorf("%s: %d bytes of type %q", path, len(a.body), a.header.Get("Content-Type"))
		}
	}
}

func TestAnswersAreNeitherSniffedNorKept(t *testing.T) {
	d := open(t)
	for _, path := range []string{"/api/v1/audit", "/healthz", "/nowhere", "/api/v1/audit?x=1"} {
		h := d.as("viewer").get(path).header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestTheTokensRouteNamesWhatIsWrong(t *testing.T) {
	d := open(t)
	admin := d.as("superadmin")
	long := strings.Repeat("x", 10<<20)
	names := func() int { return len(d.tokens.List()) }
	before := names()
	d.unchanged(func() {
		for _, tt := range []struct{ name, body, field string }{
			{"nothing", "", "body"},
			{"an array", "[]", "body"},
			{"cut off", `{"name":"a","role":"viewer"`, "body"},
			{"no members", "{}", "role"},
			{"no name", `{"role":"viewer"}`, "name"},
			{"an empty name", `{"name":"","role":"viewer"}`, "name"},
			{"a long name", `{"name":"` + long[:129] + `","role":"viewer"}`, "name"},
			{"a name of 10 MB", `{"name":"` + long + `","role":"viewer"}`, "name"},
			{"a name with a newline", `{"name":"a\nb","role":"viewer"}`, "name"},
			{"a name with NUL", `{"name":"a\u0000b","role":"viewer"}`, "name"},
			{"a name with a space at its end", `{"name":"a ","role":"viewer"}`, "name"},
			{"the server's own name", `{"name":"graven","role":"viewer"}`, "name"},
			{"the name of nobody", `{"name":"anonymous","role":"viewer"}`, "name"},
			{"a name of another type", `{"name":5,"role":"viewer"}`, "name"},
			{"a role that is none", `{"name":"a","role":"king"}`, "role"},
			{"a role twice", `{"name":"a","role":"viewer","role":"superadmin"}`, "role"},
			{"namespaces twice", `{"name":"a","role":"viewer","namespaces":["x"],"namespaces":["y"]}`, "namespaces"},
			{"a namespace of no name", `{"name":"a","role":"viewer","namespaces":[""]}`, "namespaces"},
			{"a namespace of another type", `{"name":"a","role":"viewer","namespaces":[5]}`, "namespaces[0]"},
			{"namespaces that are no list", `{"name":"a","role":"viewer","namespaces":"x"}`, "namespaces"},
			{"too many namespaces", `{"name":"a","role":"viewer","namespaces":["x"` + strings.Repeat(`,"x"`, 300) + `]}`, "namespaces"},
			{"attests that is neither", `{"name":"a","role":"viewer","attests":"yes"}`, "attests"},
			{"an unknown member", `{"name":"a","role":"viewer","admin":true}`, "admin"},
			{"an end in the past", `{"name":"a","role":"viewer","expiresAt":"2020-01-01T00:00:00Z"}`, "expiresAt"},
			{"an end that is no time", `{"name":"a","role":"viewer","expiresAt":"tomorrow"}`, "expiresAt"},
			{"a term that is none", `{"name":"a","role":"viewer","expiresIn":"long"}`, "expiresIn"},
			{"a term that is a date", `{"name":"a","role":"viewer","expiresIn":"2020-01-01"}`, "expiresIn"},
			{"a term of less than nothing", `{"name":"a","role":"viewer","expiresIn":"-1h"}`, "expiresIn"},
			{"a term of nothing", `{"name":"a","role":"viewer","expiresIn":"0s"}`, "expiresAt"},
			{"a term and an end", `{"name":"a","role":"viewer","expiresIn":"1h","expiresAt":"2099-01-01T00:00:00Z"}`, "expiresIn"},
		} {
			a := admin.post("/api/v1/tokens", tt.body)
			a.what = tt.name
			a.problem(http.StatusBadRequest, tt.field, "")
		}
		admin.post("/api/v1/tokens", `{"name":"viewer","role":"viewer"}`).problem(http.StatusConflict, "", "already")
		admin.do(http.MethodDelete, "/api/v1/tokens/nobody", nil).problem(http.StatusNotFound, "", "no token")
		for _, body := range []string{"", "5", "{}", `{"correlation_id":""}`, `{"correlation_id":5}`, `{"correlation_id":null}`, `{"correlation_id":"a","correlation_id":"b"}`, `{"correlation_id":"a","x":1}`,
			`{"correlation_id":"a"`, `{"correlation_id":"a"}x`, `{"correlation_id":"` + long[:513] + `"}`} {
			if a := admin.post("/api/v1/audit/verify-chain", body).want(http.StatusBadRequest); !strings.Contains(string(a.body), "correlation_id") && !strings.Contains(string(a.body), `"field":"body"`) && !strings.Contains(string(a.body), `"field":"x"`) {
				t.Errorf("%.60s: %s", body, a.body)
			}
		}
	})
	if names() != before {
		t.Error("a token was made")
	}
}

func TestATokenLivesAsLongAsItSays(t *testing.T) {
	c := newClock()
	d := open(t, onClock(c))
	admin := d.as("superadmin")
	for name, member := range map[string]string{"in": `"expiresIn":"2h"`, "at": `"expiresAt":"` + event.FormatTime(c.Now().Add(2*time.Hour)) + `"`} {
		var made struct {
			access.Token
			Secret string `json:"token"`
		}
		admin.post("/api/v1/tokens", `{"name":"`+name+`","role":"viewer",`+member+`}`).want(http.StatusCreated).into(&made)
		if made.ExpiresAt == nil || made.CreatedBy != "superadmin" || made.Hash != "" || !strings.HasPrefix(made.Secret, "gvn_") {
			t.Fatalf("made %+v", made)
		}
		if left := made.ExpiresAt.Sub(c.Now()); left > 2*time.Hour || left < 2*time.Hour-time.Second {
			t.Errorf("it lives for %s", left)
		}
		d.secrets[name] = made.Secret
		d.as(name).get("/api/v1/audit").want(http.StatusOK)
	}
	c.move(2 * time.Hour)
	for _, name := range []string{"in", "at"} {
		d.as(name).get("/api/v1/audit").problem(http.StatusUnauthorized, "", "not valid")
	}
	var list struct{ Tokens []json.RawMessage }
	admin.get("/api/v1/tokens").want(http.StatusOK).into(&list)
	if len(list.Tokens) != len(access.Roles())+2 {
		t.Errorf("%d tokens", len(list.Tokens))
	}
}
