package bus

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WriteFS is a tree of sysfs that can be written to.
type WriteFS interface {
	fs.FS
	// WriteFile writes to a file that is there. It makes none.
	WriteFile(name string, data []byte) error
}

// sysTree is the machine's own /sys.
type sysTree struct{ fs.FS }

func (sysTree) WriteFile(name string, data []byte) error {
	if !fs.ValidPath(name) {
		return &fs.PathError{Op: "write", Path: name, Err: fs.ErrInvalid}
	}
	f, err := os.OpenFile(filepath.Join("/sys", name), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(data) // one write is one command to the kernel
	return errors.Join(err, f.Close())
}

// WriteFile writes to a file of sysfs.
func WriteFile(sys fs.FS, name, text string) error {
	w, ok := sys.(WriteFS)
	if !ok {
		return fmt.Errorf("/sys/%s: %w: cannot be written to", name, ErrPermission)
	}
	if err := w.WriteFile(name, []byte(text)); err != nil {
		return fmt.Errorf("/sys/%s: %w", name, classify(err))
	}
	return nil
}

// ReadLink returns where a name in a tree of sysfs points to, such as the place of a device on its bus.
// It is empty if the name is no link.
func ReadLink(sys fs.FS, name string) string {
	l, ok := sys.(interface{ ReadLink(string) (string, error) })
	if !ok {
		return ""
	}
	to, _ := l.ReadLink(name)
	return to
}

// ReadLink follows one link.
func (sysTree) ReadLink(name string) (string, error) {
	if !fs.ValidPath(name) {
		return "", &fs.PathError{Op: "readlink", Path: name, Err: fs.ErrInvalid}
	}
	return os.Readlink(filepath.Join("/sys", name))
}
