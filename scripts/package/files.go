package main

import (
	"archive/tar"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	contents "github.com/goreleaser/nfpm/v2/files"
)

// file is one that gets installed.
type file struct {
	from, to string
	mode     os.FileMode
}

// files lists what is installed, the same from a package as from an archive.
func (r *release) files(t target) ([]file, error) {
	list := []file{
		{filepath.Join(r.out, "holdfast-linux-"+t.name), "/usr/bin/holdfast", 0o755},
		{"deploy/holdfast.service", "/usr/lib/systemd/system/holdfast.service", 0o644},
		{"deploy/package/setup", "/usr/lib/holdfast/setup", 0o755},
		{"deploy/package/restart-delay", "/usr/lib/holdfast/restart-delay", 0o755},
		{"deploy/package/sysusers.conf", "/usr/lib/sysusers.d/holdfast.conf", 0o644},
		{"deploy/package/udev.rules", "/usr/lib/udev/rules.d/60-holdfast.rules", 0o644},
		{"deploy/package/holdfast.yaml", "/usr/share/holdfast/holdfast.yaml", 0o644},
		{"deploy/README.md", "/usr/share/doc/holdfast/README.md", 0o644},
		{"deploy/guides.md", "/usr/share/doc/holdfast/guides.md", 0o644},
	}
	examples, err := filepath.Glob(filepath.Join(r.root, "deploy/examples/*.yaml"))
	if err != nil {
		return nil, err
	}
	for _, e := range examples {
		list = append(list, file{e, "/usr/share/doc/holdfast/examples/" + filepath.Base(e), 0o644})
	}
	for i := range list {
		if !filepath.IsAbs(list[i].from) {
			list[i].from = filepath.Join(r.root, list[i].from)
		}
	}

	unit, err := os.ReadFile(filepath.Join(r.root, "deploy/holdfast.service"))
	if err != nil {
		return nil, err
	}
	instance, err := instanceUnit(string(unit))
	if err != nil {
		return nil, err
	}
	licences, err := r.licences(list[0].from)
	if err != nil {
		return nil, err
	}
	completion := exec.Command("go", "run", "./cmd/holdfast", "completion", "bash")
	completion.Dir = r.root
	bash, err := completion.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", completion, err)
	}
	for _, made := range []struct{ to, content string }{
		{"/usr/lib/systemd/system/holdfast@.service", instance},
		{"/usr/share/doc/holdfast/copyright", copyright},
		{"/usr/share/doc/holdfast/licences.txt", licences},
		{"/usr/share/bash-completion/completions/holdfast", string(bash)},
	} {
		from := filepath.Join(r.stage, filepath.Base(filepath.Dir(made.to))+"-"+filepath.Base(made.to))
		if err := os.WriteFile(from, []byte(made.content), 0o644); err != nil {
			return nil, err
		}
		list = append(list, file{from, made.to, 0o644})
	}
	return list, nil
}

// instanceUnit makes holdfast@.service, of which each instance has a configuration and a state of its own.
func instanceUnit(unit string) (string, error) {
	for _, change := range [][2]string{
		{"# holdfast@.service, for several gateways on one machine, is made from this file: see README.md.\n",
			"# Several gateways on one machine: holdfast@NAME.service is for /etc/holdfast/NAME.yaml.\n"},
		{"Description=Holdfast sensor gateway\n", "Description=Holdfast sensor gateway %i\n"},
		{"run -c /etc/holdfast/holdfast.yaml\n", "run -c /etc/holdfast/%i.yaml\n"},
		{"reload -c /etc/holdfast/holdfast.yaml\n", "reload -c /etc/holdfast/%i.yaml\n"},
		{"StateDirectory=holdfast\n", "StateDirectory=holdfast/%i\n"},
		{"# /run/holdfast, for", "# /run/holdfast/NAME, for"},
		{"RuntimeDirectory=holdfast\n", "RuntimeDirectory=holdfast/%i\n"},
		{"${file:/run/credentials/holdfast.service/", "${file:/run/credentials/holdfast@NAME.service/"},
	} {
		if n := strings.Count(unit, change[0]); n != 1 {
			return "", fmt.Errorf("deploy/holdfast.service: got %q %d times, want once: the unit of an instance is made by replacing it", change[0], n)
		}
		unit = strings.Replace(unit, change[0], change[1], 1)
	}
	return unit, nil
}

// deb writes the Debian package.
func (r *release) deb(t target, list []file) (string, error) {
	script := func(name string) string { return filepath.Join(r.root, "deploy/package", name) }
	info := &nfpm.Info{
		Name: "holdfast", Arch: t.deb, Platform: "linux", Version: r.version, VersionSchema: "none",
		Section: "net", Priority: "optional", Maintainer: "The Holdfast authors <holdfast@localhost>", License: "Apache-2.0",
		Description: "sensor gateway that does not lose data\n" +
			"Reads sensors, runs an MQTT broker for the other devices on the site, keeps\n" +
			"what they say in a journal on disk, and hands it on to an upstream broker\n" +
			"whenever that can be reached.",
		MTime: r.time, DisableGlobbing: true,
		Overridables: nfpm.Overridables{
			Depends:    []string{"systemd (>= 247)"},
			Recommends: []string{"ca-certificates"},
			Scripts:    nfpm.Scripts{PostInstall: script("postinst"), PreRemove: script("prerm"), PostRemove: script("postrm")},
			Deb:        nfpm.Deb{Compression: "gzip"}, // a Pi 1 unpacks xz for half a minute
		},
	}
	if t.name == "armv7" {
		info.Scripts.PreInstall = script("preinst-armv7")
	}
	for _, f := range list {
		info.Contents = append(info.Contents, &contents.Content{Source: f.from, Destination: f.to,
			FileInfo: &contents.ContentFileInfo{Owner: "root", Group: "root", Mode: f.mode, MTime: r.time}})
	}
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return "", err
	}
	name := fmt.Sprintf("holdfast_%s_%s.deb", r.version, t.name)
	return name, create(filepath.Join(r.out, name), func(w io.Writer) error { return deb.Default.Package(info, w) })
}

// archive writes the same files for scripts/install.sh.
func (r *release) archive(t target, list []file) (string, error) {
	name := fmt.Sprintf("holdfast_%s_%s.tar.gz", r.version, t.name)
	return name, create(filepath.Join(r.out, name), func(w io.Writer) error {
		zip, err := gzip.NewWriterLevel(w, gzip.BestCompression)
		if err != nil {
			return err
		}
		out := tar.NewWriter(zip)
		for _, f := range list {
			content, err := os.ReadFile(f.from)
			if err != nil {
				return err
			}
			if err := out.WriteHeader(&tar.Header{Name: strings.TrimPrefix(f.to, "/"), Mode: int64(f.mode), Size: int64(len(content)),
				ModTime: r.time, Uname: "root", Gname: "root", Format: tar.FormatPAX}); err != nil {
				return err
			}
			if _, err := out.Write(content); err != nil {
				return err
			}
		}
		if err := out.Close(); err != nil {
			return err
		}
		return zip.Close()
	})
}

// create writes a file, all of it or none.
func create(path string, write func(io.Writer) error) error {
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	err = write(f)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

func copyFile(from, to string, mode os.FileMode) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, content, mode); err != nil {
		return err
	}
	return os.Chmod(to, mode)
}
