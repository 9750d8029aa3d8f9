package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Budgets of the guest's time: far more than it takes.
const (
	drain   = 10 * time.Minute
	arrival = 5 * time.Minute
)

func (t *test) boot(ctx context.Context) (string, error) {
	began := time.Now()
	c, err := t.switchOn(ctx)
	if err != nil {
		return "", err
	}
	t.console = c
	up := time.Since(began)
	kernel, err := c.sh(ctx, "uname -srm; systemctl --version | head -n 1")
	return fmt.Sprintf("%s, shell after %.0f s", strings.ReplaceAll(kernel, "\n", ", "), up.Seconds()), err
}

// site is the configuration after the newcomer's: other devices may publish from outside the guest, and
// there are ten sensors.
func (t *test) site() string {
	var b strings.Builder
	fmt.Fprintf(&b, `broker:
  listeners: [{url: "mqtt://0.0.0.0:1883"}]
  anonymous: true
bridges:
  - name: cloud
    upstream: ["mqtt://broker.example:%d"]
    out: [{filter: "sensors/#"}, {filter: "load/#"}]
sensors:
  - {name: air, driver: bme280, bus: simulated}
  - {name: tank, driver: ads1115, bus: simulated}
  - {name: light, driver: bh1750, bus: simulated}
  - {name: board, driver: cpu, bus: simulated}
`, t.upstream.port)
	for i := range 3 {
		fmt.Fprintf(&b, "  - {name: soil-%d, driver: ds18b20, bus: simulated}\n", i+1)
	}
	for i := range 3 {
		fmt.Fprintf(&b, "  - {name: door-%d, driver: gpio-input, bus: simulated, line: %d}\n", i+1, 17+i)
	}
	return b.String()
}

// configure writes the site's configuration, has the service take it over while it runs, and sees a
// reading of it arrive.
func (t *test) configure(ctx context.Context) error {
	c := t.console
	if err := c.write(ctx, "/etc/holdfast/holdfast.yaml", t.site()); err != nil {
		return err
	}
	if err := c.all(ctx, "holdfast check -c /etc/holdfast/holdfast.yaml", "systemctl show -p MainPID --value holdfast >/run/before",
		"systemctl reload holdfast", "systemctl is-active holdfast", "systemctl show -p MainPID --value holdfast | cmp - /run/before"); err != nil {
		return err
	}
	return t.within(ctx, arrival, func(ctx context.Context) error {
		_, err := t.upstream.reading(ctx)
		return err
	})
}

// within calls f with a context that ends when the guest has had the time.
func (t *test) within(ctx context.Context, budget time.Duration, f func(context.Context) error) error {
	ctx, cancel := t.console.machine.Within(ctx, budget)
	defer cancel()
	return f(ctx)
}

// acknowledged waits until the guest has acknowledged n more messages of the load.
func (t *test) acknowledged(ctx context.Context, n int) error {
	return t.within(ctx, drain, func(ctx context.Context) error { return t.load.more(ctx, n) })
}

// drained waits until every message that was acknowledged is on the upstream.
func (t *test) drained(ctx context.Context) (account string, err error) {
	err = t.within(ctx, drain, func(ctx context.Context) error {
		account, err = t.upstream.all(ctx, t.load)
		return err
	})
	return account, err
}

func (t *test) security(ctx context.Context) (string, error) {
	if out, err := t.console.sh(ctx, "systemd-analyze verify holdfast.service holdfast@second.service"); err != nil || out != "" {
		return "", fmt.Errorf("systemd-analyze verify: got %q: %w", out, err)
	}
	out, err := t.console.sh(ctx, "systemd-analyze --no-pager security holdfast.service | tail -n 1")
	if err != nil {
		return "", err
	}
	_, figure, ok := strings.Cut(out, "holdfast.service: ")
	exposure, err := strconv.ParseFloat(strings.Fields(figure + " ?")[0], 64)
	if !ok || err != nil {
		return "", fmt.Errorf("got %q, want a figure", out)
	}
	if exposure > 2.0 {
		return "", fmt.Errorf("got %q, want at most 2.0", out)
	}
	return figure, nil
}

// sandbox looks at the running service from outside: what sensors need is open, and no more.
func (t *test) sandbox(ctx context.Context) (string, error) {
	pid := "pid=$(systemctl show -p MainPID --value holdfast); "
	groups, err := t.console.sh(ctx, pid+"for g in $(sed -n 's/^Groups://p' /proc/$pid/status); do getent group $g | cut -d : -f 1; done | sort | tr '\\n' ' '")
	if err != nil {
		return "", err
	}
	for _, want := range []string{"dialout", "gpio", "i2c", "spi"} {
		if !strings.Contains(" "+groups+" ", " "+want+" ") {
			return "", fmt.Errorf("groups of the service: got %q, want %s as well", groups, want)
		}
	}
	inside := pid + "nsenter -m -t $pid "
	if err := t.console.all(ctx,
		// PWM and 1-Wire are below /sys/devices; what the files' permissions do not allow stays closed.
		inside+"findmnt -no OPTIONS /sys/devices | grep -q ^rw",
		inside+"findmnt -no OPTIONS /sys | grep -q ^ro",
		inside+"findmnt -no OPTIONS / | grep -q ^ro",
		inside+"findmnt -no OPTIONS /var/lib/holdfast | grep -q ^rw",
		// A file of sysfs that the group gpio may write is one for the service.
		"f=$(echo /sys/devices/platform/*/driver_override | cut -d ' ' -f 1); chgrp gpio $f; chmod g+w $f; "+
			inside+"setpriv --reuid holdfast --regid holdfast --groups gpio --bounding-set=-all sh -c \"echo pwm >$f\" && grep -q pwm $f; r=$?; echo >$f; chmod g-w $f; test $r = 0",
	); err != nil {
		return "", err
	}
	devices, err := t.console.sh(ctx, "systemctl show -p DeviceAllow --value holdfast | grep -o 'char-[A-Za-z0-9]*' | tr '\\n' ' '")
	return fmt.Sprintf("groups %s, devices %s, writable: its state and what groups own below /sys/devices", groups, devices), err
}

// instances runs a second gateway beside the first.
func (t *test) instances(ctx context.Context) (string, error) {
	c := t.console
	if err := c.write(ctx, "/etc/holdfast/second.yaml", `device: {id: second}
data_dir: /var/lib/holdfast/second
broker: {listeners: [{url: "mqtt://127.0.0.1:1884"}]}
sensors: [{name: machine, driver: system, every: 1s}]
`); err != nil {
		return "", err
	}
	if err := c.all(ctx, "systemctl start holdfast@second"); err != nil {
		return "", err
	}
	if _, err := c.eventually(ctx, "holdfast sub -p 1884 -t 'sensors/#' -v -C 1 -W 10"); err != nil {
		return "", err
	}
	return "second beside the first", c.all(ctx, "systemctl is-active holdfast holdfast@second", "test -d /var/lib/holdfast/second/journal",
		"systemctl stop holdfast@second", "systemctl is-active holdfast")
}

// restarts breaks a configuration and looks at how often it is tried, and that a person never waits.
func (t *test) restarts(ctx context.Context) (string, error) {
	c := t.console
	if err := c.all(ctx, "echo 'sensors: 7' >/etc/holdfast/wrong.yaml", "systemctl start --no-block holdfast@wrong"); err != nil {
		return "", err
	}
	waited, err := c.eventually(ctx, "journalctl -u holdfast@wrong -o cat | grep 'failed 4 times'")
	if err != nil {
		return "", err
	}
	if err := c.all(ctx, "journalctl -u holdfast@wrong -o cat | grep 'failed 2 times in a row: waiting 2 s'",
		"journalctl -u holdfast@wrong -o cat | grep 'failed 3 times in a row: waiting 4 s'"); err != nil {
		return "", err
	}
	// Mended, and started by hand in the middle of a delay.
	return waited, c.all(ctx, "mv /etc/holdfast/second.yaml /etc/holdfast/wrong.yaml", "sed -i s,/second,/wrong, /etc/holdfast/wrong.yaml",
		"systemctl restart holdfast@wrong", "systemctl is-active holdfast@wrong", "! journalctl -u holdfast@wrong -o cat | grep 'failed [5-9] times'",
		"systemctl stop holdfast@wrong", "rm -r /etc/holdfast/wrong.yaml /var/lib/holdfast/wrong /var/lib/holdfast/second")
}

// watchIdle measures what ten sensors every ten seconds and a bridge that is connected cost.
func (t *test) watchIdle(ctx context.Context) (string, error) {
	if err := t.configure(ctx); err != nil {
		return "", err
	}
	// Of the process: memory, voluntary context switches of all threads, bytes that it has handed to the
	// block layer, ticks of the processor; of the whole system: sectors written.
	figures := func() (f [5]int, err error) {
		out, err := t.console.sh(ctx, "pid=$(systemctl show -p MainPID --value holdfast); sync; awk '/^VmRSS/ {print $2}' /proc/$pid/status; "+
			"cat /proc/$pid/task/*/status | awk '/^voluntary_ctxt/ {n+=$2} END {print n}'; awk '/^write_bytes/ {print $2}' /proc/$pid/io; "+
			"awk '{print $14+$15}' /proc/$pid/stat; awk '{print $7}' /sys/block/vda/stat")
		if err == nil {
			_, err = fmt.Sscan(out, &f[0], &f[1], &f[2], &f[3], &f[4])
		}
		return f, err
	}
	// The start itself, and what systemd writes after a boot, is no idling.
	if err := sleep(ctx, time.Minute); err != nil {
		return "", err
	}
	began := time.Now()
	before, err := figures()
	if err != nil {
		return "", err
	}
	if err := sleep(ctx, t.idle); err != nil {
		return "", err
	}
	after, err := figures()
	if err != nil {
		return "", err
	}
	var status struct {
		Sensors []struct{ Name, State string }
	}
	out, err := t.console.sh(ctx, "holdfast status --json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &status)
	}
	if err != nil {
		return "", err
	}
	for _, s := range status.Sensors {
		if s.State != "ok" {
			return "", fmt.Errorf("sensor %s is %s: idle figures are those of ten that are read", s.Name, s.State)
		}
	}
	if len(status.Sensors) != 10 {
		return "", fmt.Errorf("got %d sensors, want 10", len(status.Sensors))
	}
	took := time.Since(began).Seconds()
	rate := func(i int) float64 { return float64(after[i]-before[i]) / took }
	return fmt.Sprintf("the gateway: RSS %.1f MB, %.1f voluntary context switches/s, %.2f %% of the processor, %.2f MB/h written; the whole system: %.1f MB/h written (in %.0f s, extrapolated)",
		float64(after[0])/1000, rate(1), rate(3), rate(2)*3600/1e6, rate(4)*512*3600/1e6, took), nil
}

// upgrade installs a newer version while messages come in and the upstream is away.
func (t *test) upgrade(ctx context.Context) (string, error) {
	c := t.console
	before, err := c.sh(ctx, "sha256sum /etc/holdfast/holdfast.yaml")
	if err != nil {
		return "", err
	}
	t.load.start(c.broker)
	if err := t.acknowledged(ctx, 200); err != nil {
		return "", err
	}
	if err := t.upstream.stop(); err != nil {
		return "", err
	}
	if err := t.acknowledged(ctx, 1000); err != nil {
		return "", err
	}
	if err := c.all(ctx, "apt-get install -y -q /home/pi/holdfast_"+newVersion+"_arm64.deb", "systemctl is-active holdfast",
		"test \"$(dpkg-query -W -f '${Version}' holdfast)\" = "+newVersion); err != nil {
		return "", err
	}
	after, err := c.sh(ctx, "sha256sum /etc/holdfast/holdfast.yaml")
	if err != nil {
		return "", err
	}
	if before != after {
		return "", errors.New("the upgrade has changed the configuration")
	}
	if err := t.acknowledged(ctx, 500); err != nil {
		return "", err
	}
	t.load.stop()
	if err := t.upstream.start(); err != nil {
		return "", err
	}
	return t.drained(ctx)
}

// powerCuts pulls the plug in the middle of the load.
func (t *test) powerCuts(ctx context.Context) (said string, err error) {
	for cut := 1; cut <= t.cuts; cut++ {
		t.load.start(t.console.broker)
		if err := t.acknowledged(ctx, 100); err != nil {
			return "", fmt.Errorf("before cut %d: %w", cut, err)
		}
		if err := sleep(ctx, time.Duration(rand.Int64N(int64(4*time.Second)))); err != nil {
			return "", err
		}
		t.console.machine.Cut()
		t.load.stop()
		fmt.Printf("    cut %d at %d acknowledged\n", cut, t.load.acknowledged())
		if t.console, err = t.switchOn(ctx); err != nil {
			return "", fmt.Errorf("after cut %d: %w", cut, err)
		}
		if _, err := t.console.eventually(ctx, "systemctl is-active holdfast"); err != nil {
			return "", fmt.Errorf("after cut %d: %w", cut, err)
		}
	}
	return t.drained(ctx)
}

func (t *test) remove(ctx context.Context) (string, error) {
	c := t.console
	install := "apt-get install -y -q /home/pi/holdfast_" + newVersion + "_arm64.deb"
	err := c.all(ctx, "apt-get remove -y -q holdfast", "test -d /var/lib/holdfast/journal", "test -e /etc/holdfast/holdfast.yaml",
		"! test -e /usr/bin/holdfast", "! systemctl is-active holdfast",
		// Installed again it goes on with them.
		"grep -q load /etc/holdfast/holdfast.yaml && "+install, "systemctl is-active holdfast", "grep -q load /etc/holdfast/holdfast.yaml",
		"apt-get purge -y -q holdfast", "! test -e /var/lib/holdfast", "! test -e /etc/holdfast", "! getent passwd holdfast", "! systemctl is-active holdfast",
		"! find /usr /etc -name '*holdfast*' | grep .")
	return "kept by remove and used by the next install; nothing left by purge", err
}

// withoutApt does the same with scripts/install.sh and the archive.
func (t *test) withoutApt(ctx context.Context) (string, error) {
	c := t.console
	if err := c.all(ctx, "mkdir /root/d && cp /home/pi/install.sh /home/pi/*.tar.gz /home/pi/SHA256SUMS /root/d", "sed -i /deb/d /root/d/SHA256SUMS",
		"sh /root/d/install.sh", "systemctl is-active holdfast", "systemctl is-enabled holdfast", "sh /root/d/install.sh"); err != nil {
		return "", err
	}
	if _, err := c.eventually(ctx, "holdfast sub -t 'sensors/#' -v -C 1 -W 15"); err != nil {
		return "", err
	}
	// An unchanged file is replaced without --force.
	if err := c.all(ctx, "holdfast init --yes --upstream mqtt://broker.example:1883", "test -e /etc/holdfast/holdfast.yaml.old",
		"systemctl restart holdfast", "systemctl is-active holdfast", "setpriv --reuid holdfast --regid holdfast --clear-groups cat /etc/holdfast/holdfast.yaml"); err != nil {
		return "", err
	}
	if err := c.fails(ctx, "holdfast init --yes"); err != nil {
		return "", err
	}
	if err := c.all(ctx, "sh /root/d/install.sh --uninstall", "! test -e /usr/bin/holdfast", "test -d /var/lib/holdfast/journal",
		"! systemctl is-active holdfast", "echo x >>/root/d/holdfast_"+oldVersion+"_arm64.tar.gz"); err != nil {
		return "", err
	}
	if err := c.fails(ctx, "sh /root/d/install.sh"); err != nil {
		return "", err
	}
	return "installed twice, removed, a damaged archive refused, purged", c.all(ctx, "! test -e /usr/bin/holdfast", "sh /root/d/install.sh --purge",
		"! test -e /var/lib/holdfast", "! test -e /etc/holdfast", "! find /usr /etc -name '*holdfast*' | grep .")
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
