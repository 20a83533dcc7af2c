package charts_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// An instruction is one of a Dockerfile.
type instruction struct{ name, rest string }

// dockerfile reads the instructions of the Dockerfile.
func dockerfile(t *testing.T) (list []instruction) {
	t.Helper()
	text, err := os.ReadFile("../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(text), "")
	for line := range strings.Lines(joined) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, ok := strings.Cut(line, " ")
		if !ok || name != strings.ToUpper(name) {
			t.Fatalf("not an instruction: %s", line)
		}
		list = append(list, instruction{name, strings.TrimSpace(rest)})
	}
	return list
}

func TestTheImageHasItsProgramsOnlyAndIsNobodyOfPower(t *testing.T) {
	known := regexp.MustCompile(`^(FROM|WORKDIR|COPY|RUN|ARG|ENV|USER|EXPOSE|ENTRYPOINT|CMD)$`)
	// Docker's own names, with a version: no other registry.
	pinned := regexp.MustCompile(`^(scratch|[a-z]+:\d+\.\d+\.\d+(-[a-z]+)?)$`)
	stage, user := "", ""
	for _, i := range dockerfile(t) {
		switch {
		case !known.MatchString(i.name):
			t.Errorf("%s is not an instruction that is meant", i.name)
		case i.name == "FROM":
			if stage, _, _ = strings.Cut(i.rest, " "); !pinned.MatchString(stage) {
				t.Errorf("FROM %s: not pinned, or from a registry", i.rest)
			}
			user = ""
		case i.name == "USER":
			user = i.rest
		case i.name == "RUN":
			if stage == "scratch" {
				t.Errorf("nothing runs in an empty image: %s", i.rest)
			}
			if out, err := exec.Command("sh", "-n", "-c", i.rest).CombinedOutput(); err != nil {
				t.Errorf("RUN %s: %s", i.rest, out)
			}
		}
	}
	if stage != "scratch" || user != "65532:65532" {
		t.Errorf("it ends with %s as user %s", stage, user)
	}
}

// TestTheImagesStepsMakeStaticPrograms runs the steps that need no network in a
// directory.
func TestTheImagesStepsMakeStaticPrograms(t *testing.T) {
	out := t.TempDir()
	built := false
	for _, i := range dockerfile(t) {
		if i.name != "RUN" || strings.HasPrefix(i.rest, "go mod download") {
			continue
		}
		built = built || strings.Contains(i.rest, "go build")
		cmd := exec.Command("sh", "-ec", strings.ReplaceAll(i.rest, "/out/", out+"/"))
		cmd.Dir, cmd.Env = "..", append(os.Environ(), "VERSION=v1.2.3")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", i.rest, err, text)
		}
	}
	if !built {
		t.Fatal("nothing is built")
	}
	commands, err := filepath.Glob("../cmd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		name := filepath.Base(command)
		f, err := elf.Open(filepath.Join(out, "bin", name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		libraries, _ := f.ImportedLibraries()
		for _, p := range f.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("%s is not static: %v", name, libraries)
			}
		}
		f.Close()
	}
	if text, err := exec.Command(filepath.Join(out, "bin", "graven"), "version").CombinedOutput(); err != nil || string(text) != "graven v1.2.3\n" {
		t.Errorf("graven version: %s %v", text, err)
	}
	if passwd, err := os.ReadFile(filepath.Join(out, "etc", "passwd")); err != nil || !strings.HasPrefix(string(passwd), "graven:x:65532:65532:") {
		t.Errorf("/etc/passwd: %s %v", passwd, err)
	}
}
