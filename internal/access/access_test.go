package access_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graven-audit/graven/event"
	"github.com/graven-audit/graven/internal/access"
	"github.com/graven-audit/graven/internal/datadir"
)

var now = time.Date(2026, 3, 19, 14, 30, 0, 5, time.UTC)

func TestRolesMayDoWhatTheirTableSays(t *testing.T) {
	all := []access.Permission{access.Read, access.Record, access.Export, access.Verify, access.ReadAccess, access.ManageToken}
	table := map[access.Role][]access.Permission{
		access.Viewer:     {access.Read, access.Export, access.Verify},
		access.Recorder:   {access.Record},
		access.Operator:   {access.Read, access.Record, access.Export, access.Verify},
		access.Auditor:    {access.Read, access.Export, access.Verify, access.ReadAccess},
		access.Admin:      all,
		access.Superadmin: all,
		"":                nil,
		"king":            nil,
	}
	for role, permissions := range table {
		p := access.Principal{Role: role}
		for _, perm := range append(all, "", "everything") {
			if got := p.Can(perm); got != slices.Contains(permissions, perm) {
				t.Errorf("%s may %s: %v", role, perm, got)
			}
		}
	}
	if len(access.Roles()) != len(table)-2 {
		t.Errorf("roles: %v", access.Roles())
	}
}

func TestNobodyGivesMoreThanTheyHave(t *testing.T) {
	for _, r := range append(access.Roles(), "", "king") {
		for _, other := range access.Roles() {
			want := r == access.Superadmin || r == access.Admin && other != access.Superadmin
			for _, attests := range []bool{false, true} {
				p := access.Principal{Role: r}
				if got := p.MayGrant(&access.Token{Role: other, Attests: attests}); got != (want && (!attests || r == access.Superadmin)) {
					t.Errorf("%s may grant %s, attests %v: %v", r, other, attests, got)
				}
				p.Attests = true
				if got := p.MayGrant(&access.Token{Role: other, Attests: attests}); got != want {
					t.Errorf("%s who attests may grant %s: %v", r, other, got)
				}
				p.Namespaces = []string{"production"}
				if p.MayGrant(&access.Token{Role: other, Attests: attests}) {
					t.Errorf("%s of one namespace may grant %s", r, other)
				}
			}
		}
	}
}

func TestRolesAreKnownByTheirExactNames(t *testing.T) {
	for _, r := range access.Roles() {
		if got, err := access.ParseRole(string(r)); err != nil || got != r {
			t.Errorf("%s: %s, %v", r, got, err)
		}
	}
	for _, s := range []string{"", "Admin", "admin ", "king", strings.Repeat("x", 1000)} {
		if r, err := access.ParseRole(s); err == nil || r != "" || len(err.Error()) > 300 {
			t.Errorf("%.20q is %q: %v", s, r, err)
		}
	}
}

func TestNobodyIsAPrincipalToo(t *testing.T) {
	p := access.Anonymous(access.Viewer)
	if p.Name != "anonymous" || p.Via != access.ViaAnonymous || !p.Can(access.Read) || p.Can(access.Record) || p.Attests || p.Namespaces != nil {
		t.Errorf("%+v", p)
	}
}

// A safe keeps tokens in a file.
type safe struct {
	t    *testing.T
	path string
	fail error // of saving
}

func newSafe(t *testing.T) *safe {
	return &safe{t: t, path: filepath.Join(t.TempDir(), "tokens.json")}
}

func (s *safe) save(data []byte) error {
	if s.fail != nil {
		return s.fail
	}
	return os.WriteFile(s.path, data, 0o600)
}

func (s *safe) open() *access.Tokens {
	s.t.Helper()
	tokens, err := access.OpenTokens(s.path, s.save)
	if err != nil {
		s.t.Fatal(err)
	}
	return tokens
}

func TestATokenIsGoodUntilItEnds(t *testing.T) {
	s := newSafe(t)
	tokens := s.open()
	ends := now.Add(time.Hour)
	secret := access.NewSecret()
	tok := access.Token{Name: "agent", Role: access.Operator, Namespaces: []string{"payments"}, Attests: true, CreatedBy: "admin", ExpiresAt: &ends}
	if err := tokens.Add(tok, secret, now); err != nil {
		t.Fatal(err)
	}
	for _, again := range []*access.Tokens{tokens, s.open()} {
		p, err := again.Authenticate(secret, now)
		if err != nil || p.Name != "agent" || p.Via != access.ViaToken || p.Role != access.Operator || !slices.Equal(p.Namespaces, []string{"payments"}) || !p.Attests {
			t.Errorf("%+v, %v", p, err)
		}
		if _, err := again.Authenticate(secret, ends.Add(-1)); err != nil {
			t.Errorf("a nanosecond before its end: %v", err)
		}
		for name, at := range map[string]time.Time{"at its end": ends, "later": ends.Add(time.Hour)} {
			if p, err := again.Authenticate(secret, at); !errors.Is(err, access.ErrToken) || p != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for _, wrong := range []string{"", "gvn_", secret + "x", secret[:len(secret)-1], strings.ToUpper(secret), strings.Repeat("x", 1<<20)} {
			if _, err := again.Authenticate(wrong, now); !errors.Is(err, access.ErrToken) {
				t.Errorf("%.50q: %v", wrong, err)
			}
		}
		got, ok := again.Get("agent")
		if !ok || got.Hash != "" || got.CreatedAt != now.Truncate(time.Second) || got.CreatedBy != "admin" || !got.ExpiresAt.Equal(ends) {
			t.Errorf("%+v", got)
		}
	}
}

func TestASecretIsRandomAndNotKept(t *testing.T) {
	s := newSafe(t)
	tokens := s.open()
	secret := access.NewSecret()
	if other := access.NewSecret(); secret == other || !strings.HasPrefix(secret, "gvn_") || len(secret) != 47 {
		t.Errorf("%s and %s", secret, other)
	}
	if err := tokens.Add(access.Token{Name: "a", Role: access.Viewer}, secret, now); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(s.path)
	if err != nil || strings.Contains(string(text), secret[4:]) {
		t.Errorf("the file holds the secret (%v)", err)
	}
	var list []access.Token
	if err := json.Unmarshal(text, &list); err != nil || len(list[0].Hash) != 64 {
		t.Errorf("%s: %v", text, err)
	}
	if _, err := tokens.Authenticate(list[0].Hash, now); !errors.Is(err, access.ErrToken) {
		t.Error("a hash lets one in")
	}
}

func TestRulesForTokens(t *testing.T) {
	past, future := now, now.Add(1)
	many := slices.Repeat([]string{"x"}, 257)
	for _, tt := range []struct {
		name, field string
		tok         access.Token
	}{
		{"the least", "", access.Token{Name: "a", Role: access.Viewer}},
		{"the longest name", "", access.Token{Name: strings.Repeat("x", 128), Role: access.Viewer}},
		{"a name of an account", "", access.Token{Name: "system:serviceaccount:a:b", Role: access.Viewer}},
		{"an address", "", access.Token{Name: "Jane Doe <jane@example.com>", Role: access.Viewer}},
		{"a name in another script", "", access.Token{Name: "ünïcode", Role: access.Viewer}},
		{"no namespace at all", "", access.Token{Name: "a", Role: access.Viewer, Namespaces: []string{}}},
		{"an end in a nanosecond", "", access.Token{Name: "a", Role: access.Viewer, ExpiresAt: &future}},
		{"no name", "name", access.Token{Role: access.Viewer}},
		{"a name that is too long", "name", access.Token{Name: strings.Repeat("x", 129), Role: access.Viewer}},
		{"a name with a newline", "name", access.Token{Name: "a\nb", Role: access.Viewer}},
		{"a name with a tab of Unicode's", "name", access.Token{Name: "a\u0085b", Role: access.Viewer}},
		{"a name with DEL", "name", access.Token{Name: "a\x7f", Role: access.Viewer}},
		{"a name that is no text", "name", access.Token{Name: "a\xff", Role: access.Viewer}},
		{"a name with a space before it", "name", access.Token{Name: " graven", Role: access.Viewer}},
		{"a name with a space behind it", "name", access.Token{Name: "graven\u00a0", Role: access.Viewer}},
		{"the ledger's name", "name", access.Token{Name: "graven", Role: access.Viewer}},
		{"nobody's name", "name", access.Token{Name: "anonymous", Role: access.Viewer}},
		{"no role", "role", access.Token{Name: "a"}},
		{"another role", "role", access.Token{Name: "a", Role: "king"}},
		{"a namespace without a name", "namespaces", access.Token{Name: "a", Role: access.Viewer, Namespaces: []string{"x", ""}}},
		{"a namespace that is too long", "namespaces", access.Token{Name: "a", Role: access.Viewer, Namespaces: []string{strings.Repeat("x", 254)}}},
		{"a namespace that is no text", "namespaces", access.Token{Name: "a", Role: access.Viewer, Namespaces: []string{"\x00"}}},
		{"too many namespaces", "namespaces", access.Token{Name: "a", Role: access.Viewer, Namespaces: many}},
		{"an end that has come", "expiresAt", access.Token{Name: "a", Role: access.Viewer, ExpiresAt: &past}},
	} {
		tokens := newSafe(t).open()
		check, add := tokens.Check(tt.tok, now), tokens.Add(tt.tok, access.NewSecret(), now)
		for what, err := range map[string]error{"check": check, "add": add} {
			var f *event.FieldError
			if errors.As(err, &f) != (tt.field != "") || f != nil && f.Field != tt.field || err != nil && f == nil {
				t.Errorf("%s of %s: %v, want %s", what, tt.name, err, tt.field)
			}
		}
		if len(tokens.List()) != map[bool]int{true: 1}[tt.field == ""] {
			t.Errorf("%s: %d tokens", tt.name, len(tokens.List()))
		}
	}
}

func TestATokenForNoNamespaceStaysOne(t *testing.T) {
	s := newSafe(t)
	secret := access.NewSecret()
	if err := s.open().Add(access.Token{Name: "none", Role: access.Viewer, Namespaces: []string{}}, secret, now); err != nil {
		t.Fatal(err)
	}
	if err := s.open().Add(access.Token{Name: "all", Role: access.Viewer}, access.NewSecret(), now); err != nil {
		t.Fatal(err)
	}
	tokens := s.open()
	none, err := tokens.Authenticate(secret, now)
	if err != nil || none.Namespaces == nil {
		t.Errorf("it sees everything now: %+v, %v", none, err)
	}
	if all, _ := tokens.Get("all"); all.Namespaces != nil {
		t.Errorf("the other sees %v", all.Namespaces)
	}
}

func TestCallersCannotChangeATokenFromOutside(t *testing.T) {
	tokens := newSafe(t).open()
	mine := []string{"payments"}
	if err := tokens.Add(access.Token{Name: "a", Role: access.Viewer, Namespaces: mine}, "secret", now); err != nil {
		t.Fatal(err)
	}
	mine[0] = "everything"
	if p, err := tokens.Authenticate("secret", now); err != nil || p.Namespaces[0] != "payments" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestNamesAreUnique(t *testing.T) {
	s := newSafe(t)
	tokens := s.open()
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 50 {
		wg.Go(func() {
			err := tokens.Add(access.Token{Name: "a", Role: access.Viewer}, access.NewSecret(), now)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, access.ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made != 1 || len(tokens.List()) != 1 {
		t.Errorf("made %d, there are %d", made, len(tokens.List()))
	}
	if err := tokens.Check(access.Token{Name: "a", Role: access.Viewer}, now); !errors.Is(err, access.ErrExists) {
		t.Error(err)
	}
}

func TestARevokedTokenIsGoneAtOnceAndForGood(t *testing.T) {
	s := newSafe(t)
	tokens := s.open()
	secrets := map[string]string{}
	for _, name := range []string{"c", "a", "b"} {
		secrets[name] = access.NewSecret()
		if err := tokens.Add(access.Token{Name: name, Role: access.Viewer}, secrets[name], now); err != nil {
			t.Fatal(err)
		}
	}
	if err := tokens.Revoke("b"); err != nil {
		t.Fatal(err)
	}
	for _, again := range []*access.Tokens{tokens, s.open()} {
		if _, err := again.Authenticate(secrets["b"], now); !errors.Is(err, access.ErrToken) {
			t.Errorf("it still lets one in: %v", err)
		}
		if _, ok := again.Get("b"); ok {
			t.Error("it is still there")
		}
		if err := again.Revoke("b"); !errors.Is(err, access.ErrNoToken) {
			t.Errorf("revoked twice: %v", err)
		}
		var names []string
		for _, tok := range again.List() {
			names = append(names, tok.Name)
			if tok.Hash != "" {
				t.Error("a list tells a hash")
			}
		}
		if !slices.Equal(names, []string{"a", "c"}) {
			t.Errorf("there are %v", names)
		}
	}
	if err := tokens.Add(access.Token{Name: "b", Role: access.Viewer}, access.NewSecret(), now); err != nil {
		t.Errorf("the name is not free: %v", err)
	}
}

func TestWhatCannotBeSavedDoesNotHappen(t *testing.T) {
	s := newSafe(t)
	tokens := s.open()
	old, fresh := access.NewSecret(), access.NewSecret()
	if err := tokens.Add(access.Token{Name: "old", Role: access.Viewer}, old, now); err != nil {
		t.Fatal(err)
	}
	s.fail = errors.New("no room")
	if err := tokens.Add(access.Token{Name: "fresh", Role: access.Viewer}, fresh, now); !errors.Is(err, s.fail) {
		t.Errorf("add: %v", err)
	}
	if err := tokens.Revoke("old"); !errors.Is(err, s.fail) {
		t.Errorf("revoke: %v", err)
	}
	check := func(tokens *access.Tokens) {
		t.Helper()
		if _, err := tokens.Authenticate(fresh, now); !errors.Is(err, access.ErrToken) {
			t.Errorf("the token that was not saved: %v", err)
		}
		if _, err := tokens.Authenticate(old, now); err != nil {
			t.Errorf("the token whose revocation was not saved: %v", err)
		}
		if len(tokens.List()) != 1 {
			t.Errorf("%d tokens", len(tokens.List()))
		}
	}
	check(tokens)
	check(s.open())
	s.fail = nil
	if err := tokens.Add(access.Token{Name: "fresh", Role: access.Viewer}, fresh, now); err != nil {
		t.Error(err)
	}
}

func TestAMalformedFileIsRefused(t *testing.T) {
	hash := strings.Repeat("ab", 32)
	good := fmt.Sprintf(`{"name":"a","role":"viewer","hash":%q}`, hash)
	for name, text := range map[string]string{
		"nothing":                     "",
		"no JSON":                     "tokens",
		"an object":                   "{}",
		"cut off":                     "[" + good,
		"null":                        "[null]",
		"no role":                     fmt.Sprintf(`[{"name":"a","hash":%q}]`, hash),
		"another role":                fmt.Sprintf(`[{"name":"a","role":"king","hash":%q}]`, hash),
		"no name":                     fmt.Sprintf(`[{"role":"viewer","hash":%q}]`, hash),
		"no hash":                     `[{"name":"a","role":"viewer"}]`,
		"a short hash":                `[{"name":"a","role":"viewer","hash":"abcd"}]`,
		"a hash that is none":         `[{"name":"a","role":"viewer","hash":"` + strings.Repeat("xy", 32) + `"}]`,
		"a name twice":                "[" + good + "," + strings.Replace(good, "abab", "cdcd", 1) + "]",
		"a hash twice":                "[" + good + "," + strings.Replace(good, `"a"`, `"b"`, 1) + "]",
		"namespaces that are no list": fmt.Sprintf(`[{"name":"a","role":"viewer","hash":%q,"namespaces":"x"}]`, hash),
	} {
		path := filepath.Join(t.TempDir(), "tokens.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := access.OpenTokens(path, nil); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := access.OpenTokens(t.TempDir(), nil); err == nil {
		t.Error("a directory was read")
	}
	if tokens := newSafe(t).open(); len(tokens.List()) != 0 {
		t.Error("without a file there are tokens")
	}
}

func TestTokensOfALaterFormatAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens.json")
	hash := strings.Repeat("0f", 32)
	for text, says := range map[string]string{
		`{"v":2,"tokens":[]}`: "the list is of format 2, and this version knows format 1",
		`[{"name":"a","role":"viewer","createdAt":"2026-03-19T14:30:00Z","createdBy":"x","hash":"` + hash + `","onlyOnSundays":true}]`: "onlyOnSundays",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := access.OpenTokens(path, nil)
		if !errors.Is(err, datadir.ErrNewer) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "use the version that wrote it") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestWhoHasNoRoleGrantsNoMoreThanTheyHave(t *testing.T) {
	t.Parallel()
	all := []access.Permission{access.Read, access.Export, access.Verify, access.ReadAccess, access.Record, access.ManageToken, access.Hold, access.Judge, access.Erase}
	for _, c := range []struct {
		what  string
		by    access.Principal
		token access.Token
		may   bool
	}{
		{"tokens alone", access.Principal{Permissions: []access.Permission{access.ManageToken}}, access.Token{Role: access.Viewer}, false},
		{"what a viewer has, to a viewer", access.Principal{Permissions: []access.Permission{access.ManageToken, access.Read, access.Export, access.Verify}}, access.Token{Role: access.Viewer}, true},
		{"the same, to an operator", access.Principal{Permissions: []access.Permission{access.ManageToken, access.Read, access.Export, access.Verify}}, access.Token{Role: access.Operator}, false},
		{"tokens and erasures, to a superadmin", access.Principal{Permissions: []access.Permission{access.ManageToken, access.Erase}}, access.Token{Role: access.Superadmin}, false},
		{"all, to a superadmin", access.Principal{Permissions: all}, access.Token{Role: access.Superadmin}, true},
		{"all, to one who attests", access.Principal{Permissions: all}, access.Token{Role: access.Recorder, Attests: true}, false},
		{"all, by one who attests", access.Principal{Permissions: all, Attests: true}, access.Token{Role: access.Recorder, Attests: true}, true},
		{"all, in some namespaces", access.Principal{Permissions: all, RecordsIn: []string{"dev"}}, access.Token{Role: access.Recorder}, false},
	} {
		if got := c.by.MayGrant(&c.token); got != c.may {
			t.Errorf("%s: %t", c.what, got)
		}
	}
}

func TestNamesOfPrincipals(t *testing.T) {
	for _, name := range []string{"jane", "system:serviceaccount:a:b", "CN=jane, O=ü", strings.Repeat("a", 512)} {
		if err := access.CheckName(name); err != nil {
			t.Errorf("%.20q: %v", name, err)
		}
	}
	for _, name := range []string{"", "graven", "a\nb", "a\xff", strings.Repeat("a", 513)} {
		if access.CheckName(name) == nil {
			t.Errorf("%.20q is a name", name)
		}
	}
}
