package guest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
)

// File is one entry of an archive: Mode is that of a regular file, or one of Dir and Link.
type File struct {
	Name    string
	Mode    uint32
	Content []byte
}

const (
	Dir  = 0o040755
	Link = 0o120777
)

// Base is what every initial file system has: busybox as sh, the modules, and the usual directories.
// assets is what scripts/powercut/setup made.
func Base(assets string) ([]File, error) {
	files := []File{
		{"bin", Dir, nil}, {"lib", Dir, nil}, {"dev", Dir, nil}, {"proc", Dir, nil}, {"sys", Dir, nil},
		{"data", Dir, nil}, {"tmp", Dir, nil}, {"bin/sh", Link, []byte("busybox")},
	}
	from := map[string]string{"bin/busybox": "busybox"}
	for _, m := range Modules {
		from["lib/"+m+".ko"] = m + ".ko"
	}
	for name, asset := range from {
		b, err := os.ReadFile(filepath.Join(assets, asset))
		if err != nil {
			return nil, err
		}
		files = append(files, File{name, 0o755, b})
	}
	return files, nil
}

// Archive writes files in the format that the kernel unpacks (cpio, "newc").
func Archive(files []File) []byte {
	var b bytes.Buffer
	for i, f := range append(files, File{Name: "TRAILER!!!"}) {
		mode := f.Mode
		if mode < 0o10000 {
			mode |= 0o100000
		}
		b.WriteString("070701")
		for _, v := range []int{i + 1, int(mode), 0, 0, 1, 0, len(f.Content), 0, 0, 0, 0, len(f.Name) + 1, 0} {
			fmt.Fprintf(&b, "%08X", v)
		}
		b.WriteString(f.Name + "\x00")
		b.Write(make([]byte, -b.Len()&3))
		b.Write(f.Content)
		b.Write(make([]byte, -b.Len()&3))
	}
	return b.Bytes()
}
