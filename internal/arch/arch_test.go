package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	maxFileLines     = 800
	maxPackageLines  = 2500
	maxExportedNames = 40
	maxEventNames    = 60 // everybody's vocabulary
)

// larger are packages that were looked at hard, and whose parts nobody else has a
// use for: verify checks a ledger in four forms with the same means, cmd/graven has a
// file a command, internal/rest one a resource, and internal/app knows everybody.
var larger = map[string]int{"verify": 2700, "cmd/graven": 3300, "internal/rest": 3200, "internal/app": 2700}

var (
	drawers    = strings.Fields("util utils common types models helpers domain service shared base misc")
	unfinished = regexp.MustCompile(`TODO|FIXME|XXX|\b(BR|DD|ADR|GAP)-[0-9A-Z]`)
	direct     = regexp.MustCompile(`(?m)^(?:require)?\s*([^\s/]+\.\S+) v\S+\s*$`) // "// indirect" does not match
)

// file is one parsed Go file; pkg is its directory below the module.
type file struct {
	pkg, name string
	*ast.File
	set *token.FileSet
}

func (f file) test() bool      { return strings.HasSuffix(f.name, "_test.go") }
func (f file) zz() bool        { return strings.HasPrefix(f.name, "zz_generated") }
func (f file) generated() bool { return f.zz() || strings.HasSuffix(f.name, ".pb.go") }
func (f file) at(p token.Pos) string {
	return fmt.Sprintf("%s/%s:%d", f.pkg, f.name, f.set.Position(p).Line)
}

// readHouse parses the Go files below root by package; modules within it are not of the house.
func readHouse(t *testing.T, root fs.FS) map[string][]file {
	t.Helper()
	house := map[string][]file{}
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == "." {
			return err
		}
		hidden := d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") || strings.HasPrefix(d.Name(), "_")
		if d.IsDir() {
			if _, err := fs.Stat(root, p+"/go.mod"); err == nil || hidden {
				return fs.SkipDir
			}
		}
		if d.IsDir() || hidden || path.Ext(p) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		set := token.NewFileSet()
		syntax, err := parser.ParseFile(set, p, text, parser.ParseComments|parser.SkipObjectResolution)
		house[path.Dir(p)] = append(house[path.Dir(p)], file{path.Dir(p), d.Name(), syntax, set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return house
}

// offences returns what is wrong in the house, by the rule that it breaks.
func offences(house map[string][]file) map[string][]string {
	imports, names, sizes, processes, remarks := []string{}, []string{}, []string{}, []string{}, []string{}
	sources := map[string]source{}
	for pkg, files := range house {
		sources[pkg] = sourceOf(pkg, files)
		imports = append(imports, checkImports(sources[pkg])...)
		names = append(names, checkNames(pkg, files)...)
		sizes = append(sizes, checkSizes(pkg, files)...)
		for _, f := range files {
			processes = append(processes, checkProcess(f)...)
			remarks = append(remarks, checkRemarks(f)...)
		}
	}
	return map[string][]string{
		"imports point down":                      append(imports, checkVerifier(sources)...),
		"a package is a noun with a job":          names,
		"files and packages stay narrow":          sizes,
		"only commands exit and nothing has init": processes,
		"comments speak of the code as it is":     remarks,
	}
}

func sourceOf(pkg string, files []file) source {
	s := source{path: pkg}
	for _, f := range files {
		for _, spec := range f.Imports {
			p, _ := strconv.Unquote(spec.Path.Value) // the parser has checked it
			if f.test() {
				s.testImports = append(s.testImports, p)
			} else {
				s.imports = append(s.imports, p)
			}
		}
	}
	slices.Sort(s.imports)
	slices.Sort(s.testImports)
	s.imports, s.testImports = slices.Compact(s.imports), slices.Compact(s.testImports)
	return s
}

func checkNames(pkg string, files []file) (found []string) {
	program, said, dir := false, false, path.Base(pkg)
	for _, f := range files {
		name := strings.TrimSuffix(f.Name.Name, "_test")
		if slices.Contains(drawers, name) || slices.Contains(drawers, dir) {
			found = append(found, f.at(f.Name.Pos())+": a drawer that would hold anything; name the package for its noun")
		}
		doc := strings.Join(strings.Fields(f.Doc.Text()), " ")
		says := strings.HasPrefix(doc, "Package "+name+" ")
		if name == "main" {
			says = strings.HasPrefix(doc, "Command "+dir+" ") || strings.HasPrefix(doc, strings.ToUpper(dir[:1])+dir[1:]+" ")
		}
		program, said = program || !f.test(), said || says && !f.test()
	}
	if program && !said {
		found = append(found, fmt.Sprintf("%s: no package comment that starts with its name (\"Package %[2]s …\", \"Command %[2]s …\")", pkg, dir))
	}
	return found
}

func checkSizes(pkg string, files []file) (found []string) {
	lines, names, limit := 0, 0, maxExportedNames
	if pkg == "event" {
		limit = maxEventNames
	}
	for _, f := range files {
		if f.test() || f.generated() {
			continue
		}
		n := f.set.File(f.FileStart).LineCount()
		if n > maxFileLines {
			found = append(found, fmt.Sprintf("%s/%s: %d lines, more than %d", pkg, f.name, n, maxFileLines))
		}
		lines, names = lines+n, names+exportedNames(f.File)
	}
	if limit := max(maxPackageLines, larger[pkg]); lines > limit {
		found = append(found, fmt.Sprintf("%s: a package of %d lines, more than %d", pkg, lines, limit))
	}
	if names > limit && !under(pkg, "api") {
		found = append(found, fmt.Sprintf("%s: %d exported names, more than %d", pkg, names, limit))
	}
	return found
}

// exportedNames counts top-level functions, types, constants and variables.
func exportedNames(f *ast.File) int {
	var names []*ast.Ident
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil {
				names = append(names, n.Name)
			}
			return false
		case *ast.TypeSpec:
			names = append(names, n.Name)
			return false
		case *ast.ValueSpec:
			names = append(names, n.Names...)
			return false
		}
		return true
	})
	return len(slices.DeleteFunc(names, func(name *ast.Ident) bool { return !name.IsExported() }))
}

func checkProcess(f file) (found []string) {
	packages := map[string]string{} // import paths by their name in this file
	for _, spec := range f.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		packages[path.Base(p)] = p
		if spec.Name != nil {
			packages[spec.Name.Name] = p
		}
	}
	command := under(f.pkg, "cmd") || under(f.pkg, "examples") || f.pkg == "internal/gen" // the generator is run as a command, too
	ast.Inspect(f.File, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil && !f.zz() {
				found = append(found, f.at(n.Pos())+": func init runs unasked; construct where it is used")
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if !ok || command {
				return true
			}
			if p := packages[x.Name]; p == "os" && n.Sel.Name == "Exit" || p == "log" && strings.HasPrefix(n.Sel.Name, "Fatal") {
				found = append(found, fmt.Sprintf("%s: %s.%s outside cmd/; return an error", f.at(n.Pos()), p, n.Sel.Name))
			}
		}
		return true
	})
	return found
}

func checkRemarks(f file) (found []string) {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if word := unfinished.FindString(c.Text); word != "" {
				found = append(found, fmt.Sprintf("%s: %s in a comment; finish it, or say plainly what is weak", f.at(c.Pos()), word))
			}
		}
	}
	return found
}

// undocumented returns the direct dependencies of a go.mod that a page does not name.
func undocumented(gomod, page string) (found []string) {
	for _, m := range direct.FindAllStringSubmatch(gomod, -1) {
		if !strings.Contains(page, "`"+m[1]+"`") {
			found = append(found, m[1]+": a direct dependency without its reason in docs/dependencies.md")
		}
	}
	return found
}

var named = regexp.MustCompile(`\bTest[A-Z]\w+`)

// missing returns the tests that a page names and the house does not have.
func missing(house map[string][]file, page string) (found []string) {
	have := map[string]bool{}
	for _, files := range house {
		for _, f := range files {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && f.test() {
					have[fn.Name.Name] = true
				}
			}
		}
	}
	for _, name := range named.FindAllString(page, -1) {
		if !have[name] {
			found = append(found, name+": named in the docs, and there is no such test")
		}
	}
	return found
}

func TestTheHouseKeepsItsRules(t *testing.T) {
	root := os.DirFS("../..")
	house := readHouse(t, root)
	if house["internal/arch"] == nil {
		t.Fatal("the house was not found two directories up")
	}
	for rule, found := range offences(house) {
		t.Run(rule, func(t *testing.T) { expect(t, found, "") })
	}
	t.Run("every direct dependency has its reason", func(t *testing.T) {
		gomod, err := fs.ReadFile(root, "go.mod")
		if err != nil {
			t.Fatal(err)
		}
		page, err := fs.ReadFile(root, "docs/dependencies.md")
		if err != nil {
			t.Fatal(err)
		}
		expect(t, undocumented(string(gomod), string(page)), "")
	})
	t.Run("every promise names a test that there is", func(t *testing.T) {
		for _, name := range []string{"docs/trust.md", "docs/delivery.md"} {
			page, err := fs.ReadFile(root, name)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, missing(house, string(page)), "")
			if len(missing(house, "see TestThatNobodyWrote")) == 0 || !named.Match(page) {
				t.Errorf("a missing test is not noticed, or %s names none", name)
			}
		}
	})
}

func TestImportsAgainstTheRulesAreRefused(t *testing.T) {
	const ours = module + "/"
	for _, tt := range []struct {
		name, from, imp, testImp, want string
	}{
		{"a feature imports another feature", "internal/search", ours + "internal/retention", "", "features is not below features"},
		{"a feature serves HTTP", "internal/search", "net/http", "", `know none of ["net/http"`},
		{"a feature talks to Kubernetes", "internal/capture", "k8s.io/api/core/v1", "", `"k8s.io"]`},
		{"a feature's test opens a database", "internal/search", "", "database/sql", `"database/sql"`},
		{"the ground imports a module", "event", "github.com/google/uuid", "", `the ground floor imports the standard library and ["golang.org/x"] only`},
		{"a program uses what only tests may", "event", "pgregory.net/rapid", "", "the ground floor imports the standard library"},
		{"the format imports a feature", "trail", ours + "internal/ledger", "", "features is not below format"},
		{"the verifier trusts the ledger", "verify", ours + "internal/ledger", "", "features is not below tools"},
		{"the verifying command imports the client", "cmd/graven-verify", ours + "client", "", `of ours it may import only ["event" "trail" "tombstone" "cosign" "evidence"]`},
		{"a Kubernetes type imports the event", "api/graven/v1alpha1", ours + "event", "", "of ours it may import only []"},
		{"an edge imports another edge", "internal/filestore", ours + "internal/postgres", "", "edges is not below edges"},
		{"a sink imports another sink", "internal/export/splunk", ours + "internal/export/syslog", "", "edges is not below edges"},
		{"a program imports the test environment", "internal/app", ours + "internal/testenv", "", "only tests may import it"},
		{"a test imports a higher floor", "trail", "", ours + "internal/app", "in a test: a package imports lower floors only, and wiring is not below format"},
		{"a package has no floor", "internal/utils", "", "", "internal/utils has no floor"},
		{"a package imports one without a floor", "internal/app", ours + "internal/utils", "", "that package has no floor"},

		{"a feature imports the ground", "internal/ledger", ours + "event", "", ""},
		{"a sink imports its engine", "internal/export/splunk", ours + "internal/export", "", ""},
		{"the wiring imports an edge", "internal/app", ours + "internal/rest", "", ""},
		{"a test imports the store suite", "internal/ledger", "", ours + "internal/storetest", ""},
		{"a test imports the package under test", "trail", "", ours + "trail", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := source{path: tt.from, imports: []string{tt.imp}[:min(1, len(tt.imp))], testImports: []string{tt.testImp}[:min(1, len(tt.testImp))]}
			expect(t, checkImports(s), tt.want)
		})
	}
}

func TestFilesAgainstTheRulesAreRefused(t *testing.T) {
	const pkg = "// Package event says it.\npackage event\n"
	for _, tt := range []struct {
		name, file, text, want string
	}{
		{"a drawer", "event/util/a.go", "// Package util is one.\npackage util\n", "a drawer"},
		{"a package without a comment", "event/a.go", "package event\n", "event: no package comment"},
		{"a command without its name", "cmd/graven/main.go", "// It runs.\npackage main\n", `"Command graven …"`},
		{"a long file", "event/a.go", pkg + strings.Repeat("\n", maxFileLines+1), "803 lines, more than 800"},
		{"a broad package", "trail/a.go", "// Package trail is.\npackage trail\nvar A" + strings.Repeat(", A", maxExportedNames) + " int\n", "41 exported names, more than 40"},
		{"a thing done before main", "event/a.go", pkg + "func init() {}\n", "event/a.go:3: func init"},
		{"an exit below main", "event/a.go", pkg + "import sys \"os\"\nfunc f() { sys.Exit(1) }\n", "event/a.go:4: os.Exit outside cmd/"},
		{"a fatal log below main", "event/a.go", pkg + "import \"log\"\nfunc f() { log.Fatalf(\"\") }\n", "log.Fatalf outside cmd/"},
		{"an unfinished remark", "event/a.go", pkg + "// TO" + "DO: later\n", "event/a.go:3: TO" + "DO in a comment"},
		{"a ticket in a remark", "event/a.go", pkg + "// see BR" + "-AUDIT-005\n", "BR-A in a comment"},
		{"a verifier that leans on a module", "cmd/graven-verify/main.go", "// Command graven-verify is.\npackage main\nimport _ \"github.com/google/uuid\"\n", "cmd/graven-verify reaches github.com/google/uuid"},

		{"a command that exits", "cmd/graven/main.go", "// Graven is.\npackage main\nimport \"os\"\nfunc main() { os.Exit(0) }\n", ""},
		{"a long generated file", "api/x/v1/zz_generated.go", "// Package v1 is.\npackage v1\nfunc init() {}\n" + strings.Repeat("\n", maxPackageLines), ""},
		{"a module within", "bench/go.mod", "module bench\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var found []string
			for _, list := range offences(readHouse(t, fstest.MapFS{tt.file: {Data: []byte(tt.text)}})) {
				found = append(found, list...)
			}
			expect(t, found, tt.want)
		})
	}
	t.Run("a dependency without a reason", func(t *testing.T) {
		gomod := "require a.org/one v1.0.0\nrequire (\n\tb.org/two v1.0.0\n\tc.org/three v1.0.0 // indirect\n\td.org/four v1.0.0\n)\n"
		found := undocumented(gomod, "| `d.org/four` | why |")
		if len(found) != 2 || !strings.HasPrefix(found[0], "a.org/one:") || !strings.HasPrefix(found[1], "b.org/two:") {
			t.Errorf("found %q, want a.org/one and b.org/two", found)
		}
	})
}

// expect fails unless an offence contains want, or, where want is "", there is none.
func expect(t *testing.T, found []string, want string) {
	t.Helper()
	all := strings.Join(found, "\n\t")
	switch {
	case want == "" && all != "":
		t.Errorf("against the rules of the house:\n\t%s", all)
	case !strings.Contains(all, want):
		t.Errorf("found %q, want %q", all, want)
	}
}
