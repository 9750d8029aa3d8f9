// Command vm shows the Debian package at work in a booted Debian 12 arm64 system: QEMU, systemd, apt, and
// an upstream on this machine. It installs, reads, upgrades with a backlog, cuts the power and removes,
// checks each by sequence numbers or by looking, and ends with 1 if anything is not as promised.
//
// What it does not show: the buses and the speed of a Pi. Times are those of an emulated processor.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"holdfast/scripts/guest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := &test{}
	flag.StringVar(&t.assets, "assets", "", "`DIR` with kernel and busybox, which scripts/vm/setup names first")
	flag.StringVar(&t.system, "system", "", "`DIR` with the system's disk, which it names second")
	flag.IntVar(&t.cuts, "cuts", 5, "how often to cut the power under load")
	flag.DurationVar(&t.idle, "idle", 3*time.Minute, "how long to watch the idle service")
	flag.StringVar(&t.readme, "readme", "", "`FILE` whose transcript is written anew")
	flag.Parse()
	if err := t.run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Versions of the packages: the same program, packed twice.
const (
	oldVersion = "1.0.0"
	newVersion = "1.0.1"
)

type test struct {
	assets, system, readme string
	cuts                   int
	idle                   time.Duration

	work     string
	console  *console
	upstream *upstream
	load     *load
}

// step is one of what is shown. What it returns is printed beside it.
type step struct {
	name string
	do   func(context.Context) (string, error)
}

func (t *test) run(ctx context.Context) (err error) {
	if t.work, err = os.MkdirTemp("", "holdfast-vm-"); err != nil {
		return err
	}
	defer func() {
		if err == nil {
			os.RemoveAll(t.work)
		} else {
			fmt.Printf("disk and console are kept in %s\n", t.work)
		}
	}()
	if err := t.prepare(ctx); err != nil {
		return err
	}
	if t.upstream, err = newUpstream(t.work); err != nil {
		return err
	}
	defer t.upstream.close()
	t.load = &load{}
	defer func() {
		t.load.stop()
		if t.console != nil {
			t.console.machine.Cut()
		}
	}()

	for _, s := range []step{
		{"boot", t.boot},
		{"from apt install to a reading on the upstream", t.newcomer},
		{"systemd-analyze security", t.security},
		{"groups, devices and files of the service", t.sandbox},
		{"several instances", t.instances},
		{"restarts come later each time", t.restarts},
		{"idle with 10 sensors every 10 s", t.watchIdle},
		{"upgrade with a backlog", t.upgrade},
		{fmt.Sprintf("%d power cuts under load", t.cuts), t.powerCuts},
		{"removal keeps data, purge removes it", t.remove},
		{"install.sh instead of the package", t.withoutApt},
	} {
		began := time.Now()
		said, failed := s.do(ctx)
		if failed == nil {
			fmt.Printf("ok      %s (%.0f s): %s\n", s.name, time.Since(began).Seconds(), said)
			continue
		}
		fmt.Printf("FAILED  %s (%.0f s): %v\n", s.name, time.Since(began).Seconds(), failed)
		err = errors.Join(err, fmt.Errorf("%s has failed", s.name))
		if t.console == nil || ctx.Err() != nil {
			return err // the rest would only say the same
		}
	}
	if err == nil && t.load.acknowledged() == 0 {
		err = errors.New("nothing was acknowledged: nothing is shown")
	}
	if err != nil {
		return err
	}
	fmt.Println("PASSED")
	return nil
}

// prepare builds the program, both packages and the two disks.
func (t *test) prepare(ctx context.Context) error {
	downloads := filepath.Join(t.work, "downloads")
	if err := os.Mkdir(downloads, 0o755); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(downloads, "holdfast-linux-arm64"), "./cmd/holdfast")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=arm64")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	for _, version := range []string{newVersion, oldVersion} { // SHA256SUMS is then of the old one, for install.sh
		pack := exec.CommandContext(ctx, "go", "run", "-C", "scripts", "./package", "-out", downloads, "-only", "arm64", "-version", version)
		if out, err := pack.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", pack, err, out)
		}
	}
	for _, name := range []string{"holdfast-linux-arm64", "holdfast_" + newVersion + "_arm64.tar.gz"} {
		if err := os.Remove(filepath.Join(downloads, name)); err != nil {
			return err
		}
	}

	files, err := guest.Base(t.assets)
	if err != nil {
		return err
	}
	files = append(files, guest.File{Name: "init", Mode: 0o755, Content: []byte(guestInit())}, guest.File{Name: "new", Mode: guest.Dir})
	if err := os.WriteFile(t.path("initrd"), guest.Archive(files), 0o644); err != nil {
		return err
	}
	if err := guest.Run(ctx, "cp", "--sparse=always", filepath.Join(t.system, "disk"), t.path("disk")); err != nil {
		return err
	}
	if err := guest.Run(ctx, "truncate", "-s", "64M", t.path("usb")); err != nil {
		return err
	}
	return guest.Run(ctx, "mkfs.ext4", "-q", "-F", "-d", downloads, t.path("usb"))
}

func (t *test) path(name string) string { return filepath.Join(t.work, name) }
