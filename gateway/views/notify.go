package views

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"holdfast/gateway/status"
)

// stopping is the notification for the service manager when the gateway begins to end.
const stopping = daemon.SdNotifyStopping

// runNotifications notifies the service manager (sd_notify(3)) how the gateway is doing, if there is one: that it is ready
// once the listeners are open, and, where the unit has a watchdog, that the loops make progress. One that does
// not, ends with a restart.
func (v *Views) runNotifications(ctx context.Context) error {
	select {
	case <-v.Server.Ready():
	case <-ctx.Done():
		return nil
	}
	v.phase.Store(status.Running)
	v.notify(daemon.SdNotifyReady + "\n" + v.summary())
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		v.log.Warn("the watchdog's interval cannot be read: it is not fed", "error", err)
	}
	if watchdog == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(watchdog / 2)
	defer tick.Stop()
	logged := false
	for {
		if stuck := v.Progress.Stuck(watchdog / 2); len(stuck) == 0 {
			v.notify(daemon.SdNotifyWatchdog + "\n" + v.summary())
			logged = false
		} else if !logged {
			v.log.Error("no progress: the watchdog is not fed, and systemd will restart holdfast", "loops", strings.Join(stuck, ", "), "for", watchdog/2, "parts", strings.Join(v.Health(), "; "))
			logged = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// summary is a line for systemctl status.
func (v *Views) summary() string {
	connected, bridges := 0, v.Bridges()
	var waiting uint64
	for _, s := range bridges {
		waiting += s.Depth
		if s.Connected {
			connected++
		}
	}
	return fmt.Sprintf("STATUS=%d sensors, %d of %d bridges connected, %d messages waiting", len(v.Config().Sensors), connected, len(bridges), waiting)
}

// Reloading notifies the service manager that the configuration is being changed, until done.
func (v *Views) Reloading() (done func()) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	v.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
	return func() { v.notify(daemon.SdNotifyReady + "\n" + v.summary()) }
}

// notify sends a notification to the service manager, if there is one.
func (v *Views) notify(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		v.log.Warn("could not notify the service manager", "error", err)
	}
}
