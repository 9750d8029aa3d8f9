// Package views shows a gateway's state: status, health, latest values, the dashboard's page, and the
// notifications of the service manager.
//
// It promises that every view shows the same picture, and that a view changes nothing and holds nothing up. A tap
// brings it readings, states and connections; it collects everything else on request.
package views

import (
	"context"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/part"
	"holdfast/gateway/progress"
	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/gateway/web"
	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// Sources are where views get what they show. All must be set before Run; functions may be called at any time, by several
// goroutines.
type Sources struct {
	Config    func() *config.Config
	Journal   *journal.Journal
	Broken    error  // why the journal keeps nothing; nil if it does
	Foreign   string // the other device that wrote the journal before; empty if there is none
	Server    *server.Server
	Buses     *bus.Set
	Progress  *progress.Progress
	Sensors   func() map[string]sensors.Counts
	Bridges   func() []status.Bridge
	Listeners func() []status.Listener // where clients connect
	Others    func() []status.Listener // of the dashboard and the control socket
	Refused   func() status.DashboardRefused
	Changes   func() status.Config
	Health    func() []string // of the parts that are not well
}

// Options are what views start with.
type Options struct {
	Version string
	Config  *config.Config
	Hub     *tap.Hub
	Log     *slog.Logger
}

// Views are all views of one gateway. Methods are safe for concurrent use.
type Views struct {
	Sources
	version string
	log     *slog.Logger
	started time.Time
	phase   atomic.Value // status.State
	latest  *latest
	page    *page // nil without a dashboard
	taps    []*tap.Subscription
}

// New returns views that subscribe to the gateway's events.
func New(opts Options) *Views {
	v := &Views{version: opts.Version, log: opts.Log, started: time.Now(), latest: newLatest()}
	v.phase.Store(status.Starting)
	v.taps = append(v.taps, opts.Hub.Subscribe(tap.Options{Name: "latest values", Take: v.latest.take}))
	if opts.Config.Web.On() {
		v.page = &page{history: web.NewHistory(), timelines: map[string]*web.Timeline{}}
		v.taps = append(v.taps, opts.Hub.Subscribe(tap.Options{Name: "dashboard", Take: v.page.take}))
	}
	return v
}

// Close ends the subscriptions.
func (v *Views) Close() error {
	for _, t := range v.taps {
		t.Close()
	}
	return nil
}

// flush returns when every event that was published before has been handled.
func (v *Views) flush() {
	for _, t := range v.taps {
		t.Flush()
	}
}

// Stopping sets the state stopping in every view, and notifies the service manager.
func (v *Views) Stopping() {
	v.phase.Store(status.Stopping)
	v.notify(stopping)
}

// IsStopping reports whether Stopping was called.
func (v *Views) IsStopping() bool { return v.phase.Load() == status.Stopping }

// Notifications is the part that notifies the service manager.
func (v *Views) Notifications() part.Part {
	return part.Simple{Called: "notify", Start: func(ctx context.Context) error { return v.runNotifications(ctx) }}
}

// Metrics returns the handler for Prometheus.
func (v *Views) Metrics() http.Handler { return status.MetricsHandler(v.Status, v.log) }
