package reconfigure

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Replace replaces the content of a file, atomically and durably: after a power cut it has the old text or the
// new. Owner, group and mode stay as they are, and so does a symbolic link. If keep is set, the old text is
// in a file with .old behind its name first. Its errors name the file and the remedy.
func Replace(name string, text []byte, keep bool) error {
	name, err := filepath.EvalSymlinks(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if keep {
		old, err := os.ReadFile(name)
		if err != nil {
			return remedy(err)
		}
		if err := write(name+".old", old, info); err != nil {
			return remedy(err)
		}
	}
	return remedy(write(name, text, info))
}

// PutBack replaces a file with the .old that Replace has kept, if that has this SHA-256.
func PutBack(name, sha256 string) error {
	text, err := os.ReadFile(name + ".old")
	if err != nil {
		return remedy(err)
	}
	if digest(text) != sha256 {
		return fmt.Errorf("%s.old is not what %s held before: put that there by hand, or apply another configuration", name, name)
	}
	return Replace(name, text, false)
}

func remedy(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: use sudo", err)
	}
	return err
}

// write makes a file that is durable before it gets its name, and has the owner of like, if that is not nil.
func write(name string, text []byte, like fs.FileInfo) (err error) {
	mode := fs.FileMode(0o600)
	if like != nil {
		mode = like.Mode().Perm()
	}
	next := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".new")
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash, or a trap
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(next)
		}
	}()
	if like != nil {
		owner := like.Sys().(*syscall.Stat_t)
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil { // or the gateway might not be able to read it
			return err
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(next, name); err != nil {
		return err
	}
	return syncDir(filepath.Dir(name))
}

// syncDir makes names in a directory durable.
func syncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
