package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"holdfast/broker"
)

// TestRootInTheServicesDirectory: root reads, repairs and changes the journal of a service whose user has put
// symbolic links there. Nothing outside of the data directory may change, be read or change hands, and
// what is made inside belongs to the service.
func TestRootInTheServicesDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be led astray")
	}
	const nobody = 65534
	commands := [][]string{
		{"journal", "repair"}, {"journal", "forget", "--yes", "session/late"}, {"journal", "dead", "delete", "--all"},
		{"journal", "dead", "send", "--all"}, {"journal", "info"}, {"journal", "verify"}, {"journal", "cat"}, {"journal", "export", "--all"},
	}
	for _, trap := range []string{"lock", "segments", "snapshots", "damaged", "directory"} {
		for _, command := range commands {
			t.Run(trap+"/"+strings.Join(command, " "), func(t *testing.T) {
				s := newStore(t)
				for i := range 200 {
					s.publish(2, broker.Message{Topic: "a/b", QoS: 1, Payload: fmt.Appendf(nil, "%d", i)})
				}
				s.close()
				dir := filepath.Join(s.dataDir, "journal")
				secret := filepath.Join(t.TempDir(), "secret")
				const content = "only root may read this"
				err := os.WriteFile(secret, []byte(content), 0o600)
				for d := filepath.Dir(secret); err == nil && d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
					err = os.Chmod(d, 0o755)
				}
				for d := s.dataDir; err == nil && d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
					err = os.Chmod(d, 0o755)
				}
				if err != nil {
					t.Fatal(err)
				}
				setTrap(t, trap, dir, secret)
				err = filepath.WalkDir(s.dataDir, func(name string, _ fs.DirEntry, err error) error {
					return errors.Join(err, os.Lchown(name, nobody, nobody))
				})
				if err != nil {
					t.Fatal(err)
				}
				out, errs, _ := run(append(command, "--data-dir", s.dataDir)...)
				if strings.Contains(out+errs, content) {
					t.Errorf("what only root may read is shown: %s%s", out, errs)
				}
				if b, err := os.ReadFile(secret); err != nil || string(b) != content {
					t.Errorf("the file outside has %q (%v)", b, err)
				}
				if info, err := os.Stat(secret); err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 || info.Mode().Perm() != 0o600 {
					t.Errorf("the file outside has another owner or mode: %v (%v)", info, err)
				}
				err = filepath.WalkDir(s.dataDir, func(name string, d fs.DirEntry, err error) error {
					if err != nil {
						return err
					}
					info, err := d.Info()
					if err == nil && info.Sys().(*syscall.Stat_t).Uid != nobody {
						t.Errorf("%s belongs to user %d", name, info.Sys().(*syscall.Stat_t).Uid)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// setTrap damages the journal, so that a repair writes, and puts links to target where it might write.
func setTrap(t *testing.T, trap, dir, target string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	snapshots, err2 := filepath.Glob(filepath.Join(dir, "*.snap"))
	if err := errors.Join(err, err2); err != nil || len(segments) == 0 {
		t.Fatalf("%v, %d segments", err, len(segments))
	}
	link := func(names ...string) {
		for _, name := range names {
			if err := errors.Join(os.RemoveAll(name), os.Symlink(target, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	damage := func() {
		f, err := os.OpenFile(segments[0], os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteAt([]byte("damaged"), 5000)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	switch trap {
	case "lock":
		damage()
		link(filepath.Join(dir, "lock"))
	case "segments":
		link(segments...)
	case "snapshots":
		for _, name := range snapshots {
			link(name, name+".tmp")
		}
	case "damaged":
		damage()
		for _, name := range append(segments, snapshots...) {
			link(name+".damaged", name+".damaged.tmp", name+".tmp", name+".aside", name+".repair")
		}
	case "directory":
		link(dir)
	}
}
