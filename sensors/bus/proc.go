package bus

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Proc returns the tree of /proc that belongs to a bus name. A simulator has it as "proc" in its /sys.
func (s *Set) Proc(name string) (fs.FS, error) {
	sim, err := s.simulates(name)
	if err != nil {
		return nil, err
	}
	if sim == nil {
		return os.DirFS("/proc"), nil
	}
	return fs.Sub(sim.Sysfs(), "proc")
}

// Disk returns the size of a file system and what is free of it for every user, in bytes. A simulator has
// both in the file "disk" of its /sys.
func (s *Set) Disk(name, path string) (size, free float64, err error) {
	sim, err := s.simulates(name)
	if err != nil {
		return 0, 0, err
	}
	if sim != nil {
		text, err := ReadFile(sim.Sysfs(), "disk")
		if err != nil {
			return 0, 0, err
		}
		total, rest, _ := strings.Cut(text, " ")
		size, err1 := strconv.ParseFloat(total, 64)
		free, err2 := strconv.ParseFloat(rest, 64)
		if err1 != nil || err2 != nil {
			return 0, 0, fmt.Errorf("disk: got %.40q, want two numbers", text)
		}
		return size, free, nil
	}
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", path, classify(err))
	}
	return float64(st.Blocks) * float64(st.Bsize), float64(st.Bavail) * float64(st.Bsize), nil
}
