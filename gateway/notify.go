package gateway

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"holdfast/gateway/status"
)

// notify tells the service manager how the gateway is doing (sd_notify(3)), if there is one: that it is ready
// once the listeners are open, and, where the unit has a watchdog, that the loops make progress. One that does
// not, ends with a restart.
func (a *Agent) notify(ctx context.Context) error {
	select {
	case <-a.server.Ready():
	case <-ctx.Done():
		return nil
	}
	a.phase.Store(status.Running)
	a.tell(daemon.SdNotifyReady + "\n" + a.summary())
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.Warn("the watchdog's interval cannot be read: it is not fed", "error", err)
	}
	if watchdog == 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(watchdog / 2)
	defer tick.Stop()
	told := false
	for {
		if stuck := a.progress.stuck(watchdog / 2); len(stuck) == 0 {
			a.tell(daemon.SdNotifyWatchdog + "\n" + a.summary())
			told = false
		} else if !told {
			a.log.Error("no progress: the watchdog is not fed, and will have holdfast started again", "loops", strings.Join(stuck, ", "), "for", watchdog/2)
			told = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// summary is a line for systemctl status.
func (a *Agent) summary() string {
	connected, bridges := 0, a.bridgeStats()
	var waiting uint64
	for _, s := range bridges {
		waiting += s.Depth
		if s.Connected {
			connected++
		}
	}
	return fmt.Sprintf("STATUS=%d sensors, %d of %d bridges connected, %d messages waiting", len(a.config().Sensors), connected, len(bridges), waiting)
}

// reloading tells that the configuration is being changed, until done.
func (a *Agent) reloading() (done func()) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // cannot fail
	a.tell(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
	return func() { a.tell(daemon.SdNotifyReady + "\n" + a.summary()) }
}

// tell does nothing without a service manager.
func (a *Agent) tell(state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		a.log.Warn("the service manager cannot be told", "error", err)
	}
}
