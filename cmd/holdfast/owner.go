package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// becomeOwner gives up root's rights for those of the user who owns dir, for the rest of the process, so that
// nothing which that user has put there, such as a symbolic link, leads root anywhere. Root stays root where
// dir is its own or is missing. All threads of the process change (setuid(2) by way of
// syscall.AllThreadsSyscall), so nothing else may be under way.
func becomeOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	uid, gid := int(owner.Uid), int(owner.Gid)
	if uid == 0 {
		return nil
	}
	for _, err := range []error{syscall.Setgroups([]int{gid}), syscall.Setgid(gid), syscall.Setuid(uid)} {
		if err != nil {
			return fmt.Errorf("%s belongs to user %d: cannot continue as that user: %w", dir, uid, err)
		}
	}
	return nil
}
