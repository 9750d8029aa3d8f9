package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestWrong loads every file in testdata/wrong by itself. All of them are wrong, and wrong.golden
// holds what Load says about each.
func TestWrong(t *testing.T) {
	golden, err := filepath.Abs("testdata/wrong.golden")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("testdata/wrong")
	files, err := filepath.Glob("*.yaml")
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	var b strings.Builder
	for _, name := range files {
		c, err := Load([]string{name}, options())
		var errs Errors
		if c != nil || !errors.As(err, &errs) || len(errs) == 0 {
			t.Errorf("%s: got %+v, %v, want Errors", name, c, err)
			continue
		}
		b.WriteString(err.Error() + "\n\n")
	}
	for _, secret := range []string{"hunter2", "12345\n", hidden, "hidden"} {
		if strings.Contains(b.String(), secret) {
			t.Errorf("the errors give away %q", secret)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("the errors differ from %s (run with -update and look at the difference); got\n%s", golden, b.String())
	}
}

func TestUnreadableFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("large.yaml", make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("dir.yaml", 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := Load([]string{"none.yaml", "large.yaml", "dir.yaml", "/dev/zero"}, options())
	want := `none.yaml: no such file
large.yaml: is larger than 1024 KiB
dir.yaml: is a directory, want a file
/dev/zero: is not a regular file`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"address", "bus", "every"}
	for got, want := range map[string]string{
		"addres": `did you mean "address"?`, "Bus": `did you mean "bus"?`, "bsu": `did you mean "bus"?`,
		"evrey": `did you mean "every"?`, "colour": "want address, bus or every",
		strings.Repeat("x", 1000): "want address, bus or every",
	} {
		if hint := nearest(got, known); hint != want {
			t.Errorf("%.20s: got %s, want %s", got, hint, want)
		}
	}
	if hint := nearest("x", nil); hint != "want nothing" {
		t.Errorf("got %s", hint)
	}
}

// FuzzLoad: whatever the file holds, Load answers with a configuration or with errors.
func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/wrong/*.yaml", "testdata/good/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, name := range files {
			data, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name := filepath.Join(t.TempDir(), "fuzz.yaml")
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load([]string{name}, options())
		var errs Errors
		switch {
		case err == nil && c == nil, err != nil && c != nil:
			t.Fatalf("got %v and %v", c, err)
		case err != nil && (!errors.As(err, &errs) || len(errs) == 0):
			t.Fatalf("got %T, want Errors", err)
		}
		for _, e := range errs {
			if e.Text == "" || len(e.Error()) > 2000+len(name) {
				t.Errorf("%d bytes of error: %.300v", len(e.Error()), e)
			}
		}
	})
}
