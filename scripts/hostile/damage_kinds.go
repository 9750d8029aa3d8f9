package main

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// damage is something that happens to a data directory while its gateway is down.
type damage struct {
	name string
	// do changes data, of which old is an earlier copy and other that of another gateway.
	do func(r *rand.Rand, data, old, other string) error
	// visible reports whether the gateway can find out: the loss has to be said then.
	visible bool
	// total reports whether nothing is left that could say what was lost.
	total bool
}

var damageKinds = []damage{
	{"rewound", func(_ *rand.Rand, data, old, _ string) error { return replace(data, old) }, false, false},
	{"journal rewound", func(_ *rand.Rand, data, old, _ string) error {
		return replace(filepath.Join(data, "journal"), filepath.Join(old, "journal"))
	}, true, false},
	{"half copied", halfCopied, true, false},
	{"zeroed", func(r *rand.Rand, data, _, _ string) error {
		return overwrite(data, func(b []byte) []byte { clear(b); return b })
	}, true, true},
	{"segments zeroed", segmentsZeroed, true, false},
	{"random", func(r *rand.Rand, data, _, _ string) error {
		return overwrite(data, func(b []byte) []byte {
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			return b
		})
	}, true, true},
	{"files empty", func(_ *rand.Rand, data, _, _ string) error {
		return overwrite(data, func([]byte) []byte { return nil })
	}, true, true},
	{"foreign", func(_ *rand.Rand, data, _, other string) error { return replace(data, other) }, true, false},
	{"foreign journal", func(_ *rand.Rand, data, _, other string) error {
		return replace(filepath.Join(data, "journal"), filepath.Join(other, "journal"))
	}, true, false},
}

// replace makes to a copy of from.
func replace(to, from string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return copyTree(to, from)
}

// copyTree copies regular files, also those that change meanwhile, as a copying program does. Holes stay holes.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // gone meanwhile
			}
			return err
		}
		rel, _ := filepath.Rel(from, path)
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.MkdirAll(target, 0o750)
		case !d.Type().IsRegular():
			return nil
		}
		b, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(target, b, 0o640)
	})
}

// overwrite changes every file below dir.
func overwrite(dir string, change func([]byte) []byte) error {
	return files(dir, func(path string) error {
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, change(b), 0o640)
	})
}

func files(dir string, do func(path string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		return do(path)
	})
}

// halfCopied puts some files of the earlier copy over the present ones, the last of them cut.
func halfCopied(r *rand.Rand, data, old, _ string) error {
	var cut string
	err := files(old, func(path string) error {
		if r.IntN(2) == 0 {
			return nil
		}
		rel, _ := filepath.Rel(old, path)
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		cut = filepath.Join(data, rel)
		return os.WriteFile(cut, b, 0o640)
	})
	if err == nil && cut != "" {
		if i, e := os.Stat(cut); e == nil {
			err = os.Truncate(cut, i.Size()/2)
		}
	}
	return err
}

// segmentsZeroed is what a power cut may leave of the segments, from somewhere on, while smaller files are good.
func segmentsZeroed(r *rand.Rand, data, _, _ string) error {
	return files(filepath.Join(data, "journal"), func(path string) error {
		i, err := os.Stat(path)
		if err != nil || i.Size() < 1<<20 {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		from := 0
		if r.IntN(2) == 0 {
			from = r.IntN(64 << 10)
		}
		clear(b[from:])
		return os.WriteFile(path, b, 0o640)
	})
}
