package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// modules writes the list of the modules that are in the program, as the program itself names them.
func (r *release) modules(t target, list []file) (string, error) {
	program := list[0].from
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(content)

	bom := cdx.NewBOM()
	main := purl("holdfast", r.version)
	bom.Metadata = &cdx.Metadata{
		Timestamp: r.time.Format(time.RFC3339),
		Component: &cdx.Component{
			BOMRef: main, Type: cdx.ComponentTypeApplication, Name: "holdfast", Version: r.version, PackageURL: main,
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
			Hashes:   &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
			Properties: &[]cdx.Property{
				{Name: "holdfast:target", Value: t.name}, {Name: "holdfast:go", Value: info.GoVersion},
			},
		},
	}
	components := []cdx.Component{library("std", info.GoVersion)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		components = append(components, library(m.Path, m.Version))
	}
	refs := make([]string, 0, len(components))
	for _, c := range components {
		refs = append(refs, c.BOMRef)
	}
	bom.Components = &components
	bom.Dependencies = &[]cdx.Dependency{{Ref: main, Dependencies: &refs}}

	name := fmt.Sprintf("holdfast_%s_%s.cdx.json", r.version, t.name)
	return name, create(filepath.Join(r.out, name), func(w io.Writer) error {
		return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	})
}

func library(path, version string) cdx.Component {
	return cdx.Component{BOMRef: purl(path, version), Type: cdx.ComponentTypeLibrary, Name: path, Version: version,
		PackageURL: purl(path, version), Scope: cdx.ScopeRequired}
}

// purl names a Go module as scanners do.
func purl(path, version string) string { return "pkg:golang/" + path + "@" + version }
