package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast/broker/journal"
)

// quotaSize is the size of a file system that is soon full.
const quotaSize = 64 << 20

// limit puts data_dir on a small file system of its own, which only root can. Otherwise it configures the gateway
// to leave nearly all space free, which has the same effect on its journal.
func (b *bench) limit(ctx context.Context) (unlimit func() error, err error) {
	if unlimit, err = b.mount(ctx); err == nil {
		b.event("a file system of %d MiB", quotaSize>>20)
		return unlimit, nil
	}
	b.event("no file system of its own (%v): journal.keep_free takes its place", err)
	_, free, err := journal.Space(b.dir)
	if err != nil {
		return nil, err
	}
	if free < 2*quotaSize {
		return nil, fmt.Errorf("%s has %d MiB free: the trial needs %d", b.dir, free>>20, 2*quotaSize>>20)
	}
	b.journal = strings.Replace(b.journal, "keep_free: 0B", fmt.Sprintf("keep_free: %dB", free-quotaSize), 1)
	return func() error { return nil }, nil
}

func (b *bench) mount(ctx context.Context) (func() error, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("needs root")
	}
	image := filepath.Join(b.dir, "quota.img")
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(quotaSize), f.Close(), os.MkdirAll(b.data, 0o700)); err != nil {
		return nil, err
	}
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-F", "-m", "0", image}, {"mount", "-o", "loop", image, b.data}} {
		c := exec.CommandContext(ctx, command[0], command[1:]...)
		c.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		if path, err := exec.LookPath("/usr/sbin/" + command[0]); err == nil {
			c.Path, c.Err = path, nil
		}
		if out, err := c.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", command[0], err, strings.TrimSpace(string(out)))
		}
	}
	return func() error {
		if err := unix.Unmount(b.data, 0); err != nil {
			return errors.Join(err, unix.Unmount(b.data, unix.MNT_DETACH))
		}
		return nil
	}, nil
}
