package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// copyright is the file of this name, in the form that Debian's tools read.
const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: holdfast

Files: *
Copyright: 2026 The Holdfast authors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0. It is also in licences.txt beside
 this file, with the licences and notices of everything else that the program is made of.
`

// licenceFile matches the names of files that have to come with a program.
var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|notice|patents)([.-].*)?$`)

// licences is the text of those of everything that is in the program: ours, Go's, the modules' and the
// dashboard's chart library's. A text that several have is there once.
func (r *release) licences(program string) (string, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", err
	}
	owners := map[string][]string{} // by text
	var texts []string              // in order
	add := func(owner, file string) error {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if owners[string(text)] == nil {
			texts = append(texts, string(text))
		}
		owners[string(text)] = append(owners[string(text)], owner)
		return nil
	}
	goroot, err := r.goCommand("env", "GOROOT")
	if err != nil {
		return "", err
	}
	for _, one := range [][2]string{
		{"holdfast", filepath.Join(r.root, "LICENSE")}, {"Go " + info.GoVersion, filepath.Join(goroot, "LICENSE")},
		{"uPlot", filepath.Join(r.root, "gateway/web/assets/uplot-license.txt")},
	} {
		if err := add(one[0], one[1]); err != nil {
			return "", err
		}
	}
	for _, m := range info.Deps {
		dir, err := r.goCommand("list", "-m", "-f", "{{.Dir}}", m.Path)
		if err != nil {
			return "", err
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			return "", fmt.Errorf("module %s: %w", m.Path, err)
		}
		files = slices.DeleteFunc(files, func(f os.DirEntry) bool { return f.IsDir() || !licenceFile.MatchString(f.Name()) })
		if len(files) == 0 {
			return "", fmt.Errorf("module %s has no licence that could be passed on", m.Path)
		}
		for _, f := range files {
			if err := add(m.Path+" "+m.Version, filepath.Join(dir, f.Name())); err != nil {
				return "", err
			}
		}
	}
	var b strings.Builder
	for _, text := range texts {
		fmt.Fprintf(&b, "%s\n%s:\n\n%s\n\n", strings.Repeat("=", 78), strings.Join(owners[text], ",\n"), strings.TrimSpace(text))
	}
	return b.String(), nil
}

func (r *release) goCommand(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = r.root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", cmd, err)
	}
	return strings.TrimSpace(string(out)), nil
}
