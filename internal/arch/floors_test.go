package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

const module = "github.com/graven-audit/graven"

// floor is a height in the house. Imports point down.
type floor int

const (
	cellar floor = iota
	ground
	format
	tools
	features
	means    // what features are shown and asked with
	verdicts // what is made of several features: still without HTTP and SQL
	audits   // what the trail shows of controls
	dossiers // what is taken away
	types
	recorders
	engines
	edges
	wiring
	commands
	apart
)

func (f floor) String() string {
	return [...]string{"cellar", "ground", "format", "tools", "features", "means", "verdicts", "audits", "dossiers", "types", "recorders", "engines", "edges", "wiring", "commands", "apart"}[f]
}

// rooms puts packages on floors; the first match counts. A pattern is a path
// below the module, where * is one element and a trailing /... any depth.
var rooms = []struct {
	floor    floor
	patterns string
}{
	{cellar, "internal/datadir internal/inorder internal/jcs internal/legible internal/openfile internal/pgarray internal/posting internal/redact examples"},
	{ground, "internal/tree event cosign internal/seglog"},
	{format, "trail tombstone internal/spool internal/quarantine internal/brief"},
	{tools, "evidence verify verify/remote client internal/succession"},
	{features, "internal/ledger internal/intake internal/search internal/incident internal/known internal/retention internal/access internal/capture internal/export internal/demo internal/fact report"},
	{means, "internal/paper internal/condition internal/problem internal/snapshot"},
	{verdicts, "internal/transfer internal/verdict internal/custody internal/grant internal/compliance internal/narrative internal/reconstruct"},
	{audits, "internal/control internal/finding"},
	{dossiers, "internal/evidence internal/reporter"},
	{types, "api/... config"},
	{recorders, "recorder rbac"},
	{engines, "internal/account internal/admission internal/auditlog internal/sqlite internal/answer internal/places internal/upload internal/document internal/deadletter internal/erasure internal/listener internal/observer internal/protection"},
	{edges, "internal/agent internal/importer internal/filestore internal/backup internal/postgres internal/redis internal/storetest internal/keyring internal/kubeauth internal/rest internal/settings internal/terminal internal/witness internal/console internal/capturepolicy internal/controller internal/testdisk internal/testenv internal/testkey internal/export/*"},
	{wiring, "internal/app"},
	{commands, "cmd/* examples/*"},
	{apart, "internal/arch internal/gen"},
}

// only closes the list of ours that a package, or a whole floor, may import.
var only = map[string][]string{
	"cmd/graven-verify": {"event", "trail", "tombstone", "cosign", "evidence"},
	"internal/gen":      {"event", "internal/finding", "internal/rest"},
	types.String():      {},
	apart.String():      {},
}

// forTests are packages that every test may import and no program may.
var forTests = []string{"internal/testdisk", "internal/testenv", "internal/testkey", "internal/storetest"}

// outside says what a floor may import beside the standard library and ours.
// A floor that is not listed may import anything.
var outside = map[floor]struct{ modules, inTests, never []string }{
	cellar:   {modules: []string{"golang.org/x"}, inTests: []string{"github.com/gowebpki/jcs", "github.com/jackc/pgx/v5", "pgregory.net/rapid"}},
	ground:   {modules: []string{"golang.org/x"}, inTests: []string{"github.com/gowebpki/jcs", "pgregory.net/rapid"}},
	format:   {modules: []string{"golang.org/x"}, inTests: []string{"github.com/gowebpki/jcs", "pgregory.net/rapid"}},
	tools:    {modules: []string{"golang.org/x"}, inTests: []string{"github.com/gowebpki/jcs", "pgregory.net/rapid"}},
	features: {modules: []string{"golang.org/x", "github.com/google/cel-go"}, never: []string{"net/http", "database/sql", "k8s.io"}},
	verdicts: {modules: []string{"golang.org/x"}, never: []string{"net/http", "database/sql", "k8s.io"}},
	types:    {modules: []string{"k8s.io/apimachinery", "sigs.k8s.io/controller-runtime/pkg/scheme"}},
	apart:    {modules: []string{"golang.org/x"}},
}

// source is what the import rules see of a package: its path below the
// module and the full import paths of its program files and of its tests.
type source struct {
	path                 string
	imports, testImports []string
}

// checkImports returns what is wrong with a package's own imports.
func checkImports(s source) (found []string) {
	home, ok := floorOf(s.path)
	if !ok {
		return []string{s.path + " has no floor: give it one in internal/arch, or move its code to the package whose noun it is"}
	}
	for i, imp := range slices.Concat(s.imports, s.testImports) {
		test := i >= len(s.imports)
		if why := refusal(s.path, home, imp, test); why != "" {
			found = append(found, fmt.Sprintf("%s imports %s%s: %s", s.path, imp, map[bool]string{true: " in a test"}[test], why))
		}
	}
	return found
}

// refusal returns the rule that keeps the package from importing imp, or "".
func refusal(pkg string, home floor, imp string, test bool) string {
	to, ours := strings.CutPrefix(imp, module+"/")
	if !ours {
		return refusalOutside(home, imp, test)
	}
	target, ok := floorOf(to)
	list, closed := only[pkg]
	if !closed {
		list, closed = only[home.String()]
	}
	switch {
	case !ok:
		return "that package has no floor"
	case test && (target <= home || slices.Contains(forTests, to)):
		return ""
	case slices.Contains(forTests, to):
		return "only tests may import it"
	case closed && !test && slices.Contains(list, to):
		return ""
	case closed && !test:
		return fmt.Sprintf("of ours it may import only %q", list)
	case target >= home:
		return fmt.Sprintf("a package imports lower floors only, and %s is not below %s", target, home)
	}
	return ""
}

func refusalOutside(home floor, imp string, test bool) string {
	rule, limited := outside[home]
	within := func(p string) bool { return under(imp, p) }
	switch {
	case slices.ContainsFunc(rule.never, within):
		return fmt.Sprintf("%s know none of %q", home, rule.never)
	case !limited, standard(imp), slices.ContainsFunc(rule.modules, within), test && slices.ContainsFunc(rule.inTests, within):
		return ""
	}
	return fmt.Sprintf("the %s floor imports the standard library and %q only", home, rule.modules)
}

// checkVerifier returns what cmd/graven-verify reaches, through any of ours,
// that is neither the standard library nor golang.org/x.
func checkVerifier(house map[string]source) (found []string) {
	const start = "cmd/graven-verify"
	seen := map[string]bool{start: true}
	for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
		for _, imp := range house[queue[0]].imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			switch {
			case ours && !seen[to]:
				seen[to] = true
				queue = append(queue, to)
			case !ours && !standard(imp) && !under(imp, "golang.org/x"):
				found = append(found, fmt.Sprintf("%s reaches %s through %s: the verifier stands on the standard library and golang.org/x only", start, imp, queue[0]))
			}
		}
	}
	return found
}

func floorOf(pkg string) (floor, bool) {
	for _, r := range rooms {
		for _, pattern := range strings.Fields(r.patterns) {
			tree, deep := strings.CutSuffix(pattern, "/...")
			if ok, _ := path.Match(pattern, pkg); ok || deep && under(pkg, tree) {
				return r.floor, true
			}
		}
	}
	return 0, false
}

// standard reports whether an import is of the standard library: its first element has no dot.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !strings.Contains(first, ".")
}

func under(p, prefix string) bool { return p == prefix || strings.HasPrefix(p, prefix+"/") }
