package auth

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxFile is the most bytes of a password or ACL file.
const maxFile = 4 << 20

// eachLine calls f for the lines of a file that are neither empty nor comments, with their numbers. All
// errors of f are returned, with file and line.
func eachLine(what, name string, f func(line string) error) error {
	file, err := os.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s %s: no such file", what, name)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s %s: this user may not read it: chgrp it to the gateway's group and chmod 640", what, name)
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return fmt.Errorf("%s %s: want a file of at most %d MiB", what, name, maxFile>>20)
	}
	var errs []error
	lines := bufio.NewScanner(io.LimitReader(file, maxFile))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if line == "" || line[0] == '#' {
			continue
		}
		if err := f(line); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %w", name, n, err))
		}
	}
	if err := lines.Err(); err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", name, err))
	}
	return errors.Join(errs...)
}

// readPasswords reads a password file, Mosquitto's form: "name:hash" on each line.
func readPasswords(name string, users map[string]hash) error {
	return eachLine("password_file", name, func(line string) error {
		user, text, found := strings.Cut(line, ":")
		if !found || user == "" {
			return errors.New("want NAME:HASH")
		}
		if _, twice := users[user]; twice {
			return fmt.Errorf("%q is a user already", user)
		}
		h, err := parseHash(text)
		if err != nil {
			return fmt.Errorf("the password of %q %w", user, err)
		}
		users[user] = h
		return nil
	})
}

// SetPassword adds a user with a hash to a password file, or replaces the user's hash. It creates a missing file.
// The rest of the file, its owner, group and mode stay as they are. Only its owner may read a new file; if root
// creates it, the directory's group may read it too, because that of /etc/holdfast is the service's. A reader sees
// the old file or the new one.
func SetPassword(file, user, hash string) (existed bool, err error) {
	return editPasswords(file, user, user+":"+hash)
}

// DeletePassword removes a user from a password file.
func DeletePassword(file, user string) (existed bool, err error) {
	return editPasswords(file, user, "")
}

// CheckUser returns an error if name cannot stand in a password file.
func CheckUser(name string) error {
	if name == "" || strings.ContainsAny(name, ":\n\r\x00") || strings.TrimSpace(name) != name || name[0] == '#' {
		return fmt.Errorf("%q cannot be a user: want a name without ':', that does not begin with '#'", name)
	}
	return nil
}

func editPasswords(file, user, line string) (existed bool, err error) {
	if err := CheckUser(user); err != nil {
		return false, err
	}
	mode := fs.FileMode(0o600)
	uid, gid := -1, -1
	old, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if of := groupOf(filepath.Dir(file)); os.Geteuid() == 0 && of > 0 {
			mode, uid, gid = 0o640, 0, of
		}
	case err != nil:
		return false, err
	default:
		info, err := os.Stat(file)
		if err != nil {
			return false, err
		}
		mode = info.Mode().Perm()
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			uid, gid = int(st.Uid), int(st.Gid)
		}
	}
	var b bytes.Buffer
	for l := range bytes.Lines(old) {
		if bytes.HasPrefix(bytes.TrimSpace(l), []byte(user+":")) {
			if !existed && line != "" {
				b.WriteString(line + "\n")
			}
			existed = true
			continue
		}
		b.Write(l)
		if l[len(l)-1] != '\n' {
			b.WriteByte('\n')
		}
	}
	if !existed && line != "" {
		b.WriteString(line + "\n")
	}
	if !existed && line == "" {
		return false, nil
	}
	return existed, replace(file, b.Bytes(), mode, uid, gid)
}

// groupOf is the group of a directory; -1 if it cannot be known.
func groupOf(dir string) int {
	info, err := os.Stat(dir)
	if err == nil {
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			return int(st.Gid)
		}
	}
	return -1
}

// replace writes a file so that a crash leaves the old one or the new one.
func replace(file string, data []byte, mode fs.FileMode, uid, gid int) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if uid >= 0 && err == nil && (uid != os.Geteuid() || gid != os.Getegid()) {
		err = f.Chown(uid, gid)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Close()
	}
	if err == nil {
		err = os.Rename(f.Name(), file)
	}
	return err
}

// stamp distinguishes the states of a file, also after a replacement with the same time and size, and after a
// write within a tick of the file system's clock.
type stamp struct {
	device, inode uint64
	changed       unix.Timespec // of content, owner or mode: no program can set it (stat(2))
	modified      unix.Timespec
	size          int64
}

// stat returns the state of a file; zero if it is not there.
func stat(name string) stamp {
	var st unix.Stat_t
	if name == "" || unix.Stat(name, &st) != nil {
		return stamp{}
	}
	return stamp{uint64(st.Dev), st.Ino, st.Ctim, st.Mtim, st.Size}
}
