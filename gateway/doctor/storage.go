package doctor

import (
	"context"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// disk compares the space there is with the journal's limits.
func (e *examination) disk(context.Context) {
	dir, err := filepath.Abs(e.Config.DataDir)
	if err != nil {
		e.add(Fail, "give data_dir as a whole path", "%v", err)
		return
	}
	there := dir
	for there != "/" && !e.exists(there) {
		there = path.Dir(there)
	}
	switch kind, mount := e.fileSystem(there); kind {
	case "tmpfs", "ramfs", "overlay", "squashfs":
		if there == dir || there != "/" {
			e.add(Fail, "put data_dir on a partition of its own, which is written to: see Read-only root in deploy/guides.md", "data_dir %s is on %s (%s), which a power cut empties: nothing there is durable", dir, mount, kind)
		}
	}
	if there != dir {
		e.add(Warn, "the service makes /var/lib/holdfast; another place: sudo install -d -o holdfast -g holdfast -m 700 "+dir, "data_dir %s is not there yet", dir)
	} else if err := e.m.Access(dir); err != nil {
		e.add(Fail, "sudo chown -R holdfast:holdfast "+dir+" (or run this as the service's user: sudo -u holdfast holdfast doctor)", "data_dir %s: %v", dir, err)
	}
	size, free, err := e.m.Disk(there)
	if err != nil {
		e.add(Fail, "df "+there, "the space of %s is not known: %v", there, err)
		return
	}
	used := int64(0)
	_ = fs.WalkDir(e.m.Root, strings.TrimPrefix(path.Join(dir, "journal"), "/"), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // not there yet, or not to be read: counts as nothing
		}
		if info, err := d.Info(); err == nil && d.Type().IsRegular() {
			used += info.Size()
		}
		return nil
	})
	j := e.Config.Journal
	switch {
	case free <= j.KeepFree:
		e.add(Fail, "make room (df -h "+there+"), or lower journal.keep_free", "%s free of %s, and journal.keep_free is %s: messages give way already", mib(free), mib(size), mib(j.KeepFree))
	case free+used < j.MaxSize+j.KeepFree:
		e.add(Warn, "lower journal.max_size to what fits, or make room", "%s free of %s: journal.max_size (%s) is never reached, journal.keep_free (%s) ends it at about %s",
			mib(free), mib(size), mib(j.MaxSize), mib(j.KeepFree), mib(free+used-j.KeepFree))
	default:
		e.ok("%s free of %s, the journal takes %s of at most %s", mib(free), mib(size), mib(used), mib(j.MaxSize))
	}
}

// lost reports losses of an unknown number; `holdfast journal losses` has the others.
func (e *examination) lost(context.Context) {
	if e.LostErr != nil {
		e.add(Warn, "run this as the service's user: sudo -u holdfast holdfast doctor", "whether an unknown number of messages was lost cannot be read: %v", e.LostErr)
	}
	for _, lost := range e.Lost {
		e.add(Warn, "holdfast journal losses; if data_dir was restored from a copy, start with an empty one the next time", "%s", lost)
	}
}

func mib(n int64) string { return strconv.FormatInt(n>>20, 10) + " MiB" }

// fileSystem returns the type and the mount point of the file system that a path is on.
func (e *examination) fileSystem(p string) (kind, mount string) {
	for _, line := range strings.Split(e.read("proc/mounts"), "\n") {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		at := f[1]
		if (p == at || at == "/" || strings.HasPrefix(p, at+"/")) && len(at) >= len(mount) {
			kind, mount = f[2], at
		}
	}
	return kind, mount
}

// card reads how worn an SD card or eMMC says it is: tenths of its life, the worse of two areas, 1 is up to
// 10 % used; and its reserve, 1 normal, 2 80 % used, 3 90 % (JEDEC JESD84-B51, 7.4.25 and 7.4.26).
func (e *examination) card(context.Context) {
	cards, _ := fs.Glob(e.m.Root, "sys/block/mmcblk*")
	if len(cards) == 0 {
		e.ok("no SD card or eMMC")
	}
	const remedy = "replace the card, after a backup; raise journal.commit_every to spare the next one"
	for _, c := range cards {
		if strings.Contains(path.Base(c), "boot") {
			continue // a part of an eMMC, not one of its own
		}
		name := strings.TrimSpace(path.Base(c) + " " + e.read(c+"/device/name"))
		life, reserve := uint64(0), uint64(0)
		for _, w := range strings.Fields(e.read(c + "/device/life_time")) {
			if v, err := strconv.ParseUint(w, 0, 8); err == nil {
				life = max(life, v)
			}
		}
		if v, err := strconv.ParseUint(e.read(c+"/device/pre_eol_info"), 0, 8); err == nil {
			reserve = v
		}
		switch {
		case life >= 11 || reserve >= 3:
			e.add(Fail, remedy, "%s is worn out: life used %s, reserve %d of 3", name, tenths(life), reserve)
		case life >= 9 || reserve == 2:
			e.add(Warn, remedy, "%s is nearly worn out: life used %s, reserve %d of 3", name, tenths(life), reserve)
		case life == 0 && reserve == 0:
			e.ok("%s does not tell its wear, as most SD cards", name)
		default:
			e.ok("%s: life used %s", name, tenths(life))
		}
		if e.read(c+"/ro") == "1" || e.read(c+"/force_ro") == "1" {
			e.add(Fail, remedy, "%s takes no more writes: cards become read-only at their end", name)
		}
	}
}

func tenths(life uint64) string {
	switch {
	case life == 0:
		return "unknown"
	case life > 10:
		return "100 % or more"
	}
	return "up to " + strconv.FormatUint(10*life, 10) + " %"
}

// slow is a commit that makes clients wait: a healthy card takes 1 to 10 ms.
const slow = 50 * time.Millisecond

// commit measures the duration of a durable write, which a publisher waits for.
func (e *examination) commit(context.Context) {
	dir := e.Config.DataDir
	if !e.exists(absolute(dir)) {
		e.ok("not measured: data_dir is not there yet")
		return
	}
	median, worst, err := e.m.Sync(dir)
	switch {
	case err != nil:
		e.add(Fail, "dmesg | tail shows whether the card fails; check who owns data_dir", "nothing can be made durable in %s: %v", dir, err)
	case median > slow:
		e.add(Warn, "a faster card (A1 or A2), or a USB SSD; raise journal.commit_every", "a commit takes %v, at worst %v: every acknowledgement waits for one", round(median), round(worst))
	default:
		e.ok("a commit takes %v, at worst %v", round(median), round(worst))
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }

func absolute(dir string) string {
	if abs, err := filepath.Abs(dir); err == nil {
		return abs
	}
	return dir
}
