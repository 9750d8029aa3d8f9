//go:build !race

package journal_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/broker/brokertest"
)

const raceEnabled = false

// mutants are mistakes that TestCrashStates and TestCrashStaleTail have to find, each a change of one place in the code.
var mutants = []struct{ name, file, old, new string }{
	{"no fdatasync", "commit.go",
		"err = c.file.Datasync()", "err = nil"},
	{"acknowledged before the sync", "commit.go",
		"err = c.file.Datasync()", `for i := range b.items {
			if d := b.items[i].entry.Done; d != nil {
				d.Committed(&b.items[i].entry, b.items[i].seq, nil)
				b.items[i].entry.Done = nil
			}
		}
		err = c.file.Datasync()`},
	{"no directory fsync", "maintain.go",
		"err := k.j.fs.SyncDir()", "var err error"},
	{"a file is used before its name is durable", "preallocate.go",
		"err = k.syncNames()\n\t}\n\tif err == nil {\n\t\treturn preallocated", "}\n\tif err == nil {\n\t\treturn preallocated"},
	{"constant salt", "segment.go",
		"return binary.LittleEndian.Uint32(b[:])\n}\n\n// bootID", "return 1\n}\n\n// bootID"},
	{"reclaimed before the acknowledgement is on disk", "readers.go",
		"ok && r.reg.durable.cursor() <= in.last {\n\t\t\treturn true", "ok && r.firstWaiting() <= in.last {\n\t\t\treturn true"},
	{"snapshot without rename", "checkpoint.go",
		"j.writeFile(name+tempSuffix, m)\n\tif err == nil {\n\t\terr = j.fs.Rename(name+tempSuffix, name)\n\t}",
		"j.writeFile(name, m)"},
	{"torn tail is trusted", "replay.go",
		"if !t.sure {\n\t\tlimit = t.trusted()", "if false {\n\t\tlimit = t.trusted()"},
	{"stale tails are read", "replay.go",
		"tail[n-1].id > t.previous", "false && tail[n-1].id > t.previous"},
	{"a loss without where its reader stands", "replay.go",
		"r.restore(a)\n\t\t\tj.addLoss(r, l)", "_ = a\n\t\t\tj.addLoss(r, l)"},
}

// TestMutantsDie shows that those tests can fail: they are run on code with one mistake at a time.
func TestMutantsDie(t *testing.T) {
	brokertest.Long(t)
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			source, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(source), m.old); n != 1 {
				t.Fatalf("%s has the place %d times, want once", m.file, n)
			}
			dir := t.TempDir()
			mutant := filepath.Join(dir, m.file)
			if err := os.WriteFile(mutant, []byte(strings.Replace(string(source), m.old, m.new, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			overlay, _ := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(here, m.file): mutant}})
			file := filepath.Join(dir, "overlay.json")
			if err := os.WriteFile(file, overlay, 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("go", "test", "-count=1", "-timeout=5m", "-failfast", "-overlay", file, "-run", "^TestCrash", ".")
			cmd.Env = append(os.Environ(), "HOLDFAST_CRASH_STATES=8000")
			out, err := cmd.CombinedOutput()
			if !strings.Contains(string(out), "--- FAIL: TestCrash") {
				t.Errorf("lives: %v\n%.2000s", err, out)
			}
		})
	}
}
