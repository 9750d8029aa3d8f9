package doctor

import (
	"context"
	"io/fs"
	"os"
	"strings"

	"holdfast/gateway/access"
)

// configuration makes the same checks as `holdfast check`, and reports which users can read its secrets.
func (e *examination) configuration(context.Context) {
	names := strings.Join(e.Files, ", ")
	if e.Err != nil {
		e.add(Fail, "correct it, and try again with holdfast check; holdfast init writes a first one", "%v", e.Err)
		return
	}
	if err := access.Check(e.Config, e.m.Now()); err != nil {
		e.add(Fail, "the files have to be there, and readable by the user of the service: sudo chgrp holdfast FILE, sudo chmod 640 FILE", "%s: %v", names, err)
	} else {
		e.ok("%s: device %s, %d sensors, %d outputs, %d bridges", names, e.Config.Device.ID, len(e.Config.Sensors), len(e.Config.Outputs), len(e.Config.Bridges))
	}
	for _, file := range e.Files {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm()&0o004 == 0 || info.IsDir() {
			continue
		}
		text, err := os.ReadFile(file)
		if err == nil && holdsSecret(text) {
			e.add(Warn, "sudo chmod 640 "+file+", or put it in a file of its own: ${file:PATH}", "%s has a password in it, and every user of this machine can read it", file)
		}
	}
}

// properties of a systemd unit.
func (e *examination) properties(ctx context.Context, args ...string) (map[string]string, error) {
	text, err := e.m.Run(ctx, "systemctl", append([]string{"show"}, args...)...)
	if err != nil {
		return nil, err
	}
	p := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		name, value, _ := strings.Cut(line, "=")
		p[name] = strings.TrimSpace(value)
	}
	return p, nil
}

func (e *examination) service(ctx context.Context) {
	if !e.exists("run/systemd/system") {
		e.ok("no systemd here: what starts holdfast has to restart it")
		return
	}
	p, err := e.properties(ctx, "holdfast", "--property=LoadState,UnitFileState,ActiveState,SubState,Result,NRestarts,WatchdogUSec")
	switch {
	case err != nil:
		e.add(Warn, "systemctl status holdfast", "systemd does not answer: %v", err)
		return
	case p["LoadState"] == "not-found":
		e.add(Warn, "install the package, or the unit as in deploy/README.md", "there is no unit holdfast: nothing starts it at boot")
		return
	}
	switch p["ActiveState"] {
	case "active":
		e.ok("active (%s)", p["SubState"])
	case "failed":
		e.add(Fail, "journalctl -u holdfast -n 50 says why", "failed: %s", p["Result"])
	case "activating":
		e.add(Fail, "journalctl -u holdfast -n 50 says why it ends again", "starts and does not stay (%s), result %s", p["SubState"], p["Result"])
	default:
		e.add(Warn, "sudo systemctl start holdfast", "does not run: %s", p["ActiveState"])
	}
	if n := p["NRestarts"]; n != "" && n != "0" {
		e.add(Warn, "journalctl -u holdfast -p warning says why", "was started again %s times", n)
	}
	if s := p["UnitFileState"]; s == "disabled" || s == "masked" {
		e.add(Warn, "sudo systemctl enable holdfast", "is %s: it is not started at boot", s)
	}
	if w := p["WatchdogUSec"]; w == "0" || w == "infinity" {
		e.add(Warn, "the unit of the package has WatchdogSec=: take it, or add it with sudo systemctl edit holdfast", "no watchdog: a gateway that hangs is not started again")
	} else if w != "" {
		e.ok("watchdog after %s without progress", w)
	}
}

// watchdog checks the machine's own, which reboots it when the kernel or systemd hangs.
func (e *examination) watchdog(ctx context.Context) {
	if !e.exists("dev/watchdog0") && !e.exists("dev/watchdog") {
		e.ok("this machine has none")
		return
	}
	if !e.exists("run/systemd/system") {
		e.ok("there is one, and no systemd to feed it")
		return
	}
	p, err := e.properties(ctx, "--property=RuntimeWatchdogUSec")
	if w := p["RuntimeWatchdogUSec"]; err != nil || w == "0" || w == "" || w == "infinity" {
		e.add(Warn, "RuntimeWatchdogSec=15s in /etc/systemd/system.conf.d/watchdog.conf: see Hardware watchdog in deploy/guides.md", "the hardware watchdog is off: a machine that hangs stays so")
	} else {
		e.ok("a machine that hangs is reset after %s", p["RuntimeWatchdogUSec"])
	}
}

func (e *examination) clock(context.Context) {
	const remedy = "sudo timedatectl set-ntp true; timedatectl timesync-status says whether a server answers"
	now := e.m.Now()
	if now.Year() < 2024 {
		e.add(Fail, remedy, "it is %s here: certificates look not yet valid, and readings get wrong times", now.Format("2006-01-02"))
	}
	switch synced, err := e.m.Synced(); {
	case err != nil:
		e.add(Warn, remedy, "whether it is synchronised is not known: %v", err)
	case !synced:
		e.add(Warn, remedy, "is not synchronised: readings are marked so, and commands with a time are refused")
	default:
		e.ok("synchronised")
	}
	if rtcs, _ := fs.Glob(e.m.Root, "sys/class/rtc/rtc*"); len(rtcs) == 0 {
		e.ok("no real-time clock: after a power cut the time is wrong until a server answers")
	}
}
