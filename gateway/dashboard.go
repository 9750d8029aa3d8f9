package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/listen"
	"holdfast/broker/server"
	"holdfast/gateway/config"
	"holdfast/gateway/reconfigure"
	"holdfast/gateway/status"
	"holdfast/gateway/web"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// dashboard is what the web page needs beside the parts of the gateway.
type dashboard struct {
	history *web.History
	log     *web.Log

	mu        sync.Mutex
	timelines map[string]*web.Timeline // by bridge
}

// newDashboard has the log and the bridges tell the dashboard too, so it comes before them.
func (a *Agent) newDashboard() {
	if !a.cfg.Web.On() {
		return
	}
	a.dash = &dashboard{history: web.NewHistory(), log: web.NewLog(secrets(a.cfg)...), timelines: map[string]*web.Timeline{}}
	a.log = slog.New(a.dash.log.Handler(a.log.Handler()))
}

// secrets are texts of configurations that no page shows.
func secrets(all ...*config.Config) (list []string) {
	for _, cfg := range all {
		for _, b := range cfg.Bridges {
			list = append(list, string(b.Password), string(b.Proxy.Password))
		}
	}
	return list
}

// newWeb makes the server, when everything that it shows has been built.
func (a *Agent) newWeb(source *reconfigure.Source) (err error) {
	w, b := a.cfg.Web, a.cfg.Broker
	var shown func() (string, error)
	if source != nil {
		shown = source.Show
	}
	opts := web.Options{
		Address: w.Address, Device: a.cfg.Device.ID, Auth: a.auth, View: w.View, Operate: w.Operate, Local: localRole(b),
		Look: a.look, Opened: a.recall, Command: a.command, Config: shown, History: a.dash.history, Lines: a.dash.log, Log: a.log,
	}
	if w.TLS() {
		opts.TLS, _ = webTLS(w) // an error is found again when it is opened
		a.webTLS = opts.TLS
		a.logCertificate(opts.TLS)
	} else if w.Login() && !w.Local() {
		a.log.Warn("passwords for the dashboard cross the network for everybody to read: use https in web.url")
	}
	a.web = web.New(opts)
	a.web.Handle("GET /metrics", web.View, a.metricsHandler())
	a.web.Handle("GET /healthz", web.Anybody, a.healthHandler())
	a.web.Handle("GET /readyz", web.Anybody, a.readyHandler())
	return nil
}

// localRole is what everybody on this device may do where nobody has to log in.
func localRole(b config.Broker) web.Role {
	if len(b.Users) > 0 || b.PasswordFile != "" || len(b.ACL) > 0 || b.ACLFile != "" {
		return web.View // they may not publish a command without a rule either
	}
	return web.Operate
}

func webTLS(w config.Web) (*listen.TLS, error) {
	return listen.NewTLS(listen.TLSOptions{Cert: w.Cert, Key: w.Key})
}

// reading remembers a reading for charts, after it was published.
func (d *dashboard) reading(r sensors.Reading) {
	if d != nil {
		d.history.Add(r.Sensor+"/"+r.Quantity, r.Time, r.Value)
	}
}

// changed returns what a bridge, as it is made, is to tell of its connection.
func (d *dashboard) changed(bridge string) func(bool, error) {
	if d == nil {
		return nil
	}
	return d.timeline(bridge).Changed
}

func (d *dashboard) timeline(bridge string) *web.Timeline {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.timelines[bridge]
	if t == nil {
		t = web.NewTimeline()
		d.timelines[bridge] = t
	}
	return t
}

// overview is what the page shows of the gateway as a whole. It changes seldom.
type overview struct {
	Version  string        `json:"version"`
	Started  time.Time     `json:"started"`
	State    status.State  `json:"state"`
	Problems []string      `json:"problems"`
	Power    *status.Power `json:"power,omitempty"`
	Sensors  []string      `json:"sensors"` // names, in order
	Outputs  []string      `json:"outputs"`
	Bridges  []string      `json:"bridges"`
}

// outputView is an output with what the page needs to offer values for it.
type outputView struct {
	status.Output
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	Unit     string  `json:"unit"`
	Levels   bool    `json:"levels"`   // values between off and on
	Position bool    `json:"position"` // no off and on
	Lease    float64 `json:"lease_s"`  // how long a command holds, in seconds; 0 for ever
}

// look is what the page shows. The names of the keys are the page's.
func (a *Agent) look() map[string]any {
	s := a.Status()
	v := overview{Version: s.Version, Started: s.Started, State: s.State, Problems: s.Problems, Power: s.Power,
		Sensors: []string{}, Outputs: []string{}, Bridges: []string{}}
	all := map[string]any{"journal": s.Journal, "clients": s.Clients}
	for _, x := range s.Sensors {
		v.Sensors = append(v.Sensors, x.Name)
		x.Taken = 0 // it changes with every reading, and is not shown
		all["sensor/"+x.Name] = x
	}
	for _, x := range s.Outputs {
		v.Outputs = append(v.Outputs, x.Name)
		all["output/"+x.Name] = describeOutput(x, a.outputConfig(x.Name))
	}
	for _, x := range s.Bridges {
		v.Bridges = append(v.Bridges, x.Name)
		all["bridge/"+x.Name] = x
		all["timeline/"+x.Name] = a.dash.timeline(x.Name).Periods()
	}
	all["gateway"] = v
	all["history"] = a.dash.history.Version()
	all["losses"] = lossRanges(a.Losses())
	return all
}

// outputConfig is that of an output, nil if there is none of this name.
func (a *Agent) outputConfig(name string) *outputs.Config {
	all := a.config().Outputs
	i := slices.IndexFunc(all, func(c outputs.Config) bool { return c.Name == name })
	if i < 0 {
		return nil
	}
	return &all[i]
}

func describeOutput(x status.Output, c *outputs.Config) outputView {
	v := outputView{Output: x, High: 1}
	if c == nil {
		return v // it has just gone
	}
	v.Lease = c.Lease.Seconds()
	if d := outputs.FindDriver(c.Driver); d != nil {
		v.Levels, v.Position = d.Levels, d.Position
		if d.Range != nil {
			v.Low, v.High, v.Unit = d.Range(c.Options)
			v.Unit = strings.TrimSpace(v.Unit)
		}
	}
	return v
}

// shownLosses is how many ranges the page is told.
const shownLosses = 100

type lossRange struct {
	Reader string    `json:"reader"`
	First  uint64    `json:"first"`
	Last   uint64    `json:"last"`
	Count  uint64    `json:"count"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

func lossRanges(losses []journal.Loss) []lossRange {
	list := []lossRange{}
	for _, l := range losses[max(0, len(losses)-shownLosses):] {
		list = append(list, lossRange{l.Reader, l.First, l.Last, l.Count, l.Reason, l.Time})
	}
	return list
}

// command moves an output on the path of every other command. It is of QoS 0, and expires soon: who
// presses a button means now, not after the next start.
func (a *Agent) command(ctx context.Context, name string, c web.Command) (json.RawMessage, error) {
	if a.outputConfig(name) == nil {
		return nil, errors.New("there is no output of this name")
	}
	payload, err := json.Marshal(map[string]any{"value": c.Value, "id": c.ID, "by": c.By})
	if err != nil {
		return nil, err
	}
	topic := "outputs/" + a.config().Device.ID + "/" + name
	answers := make(chan json.RawMessage, 1)
	cancel, err := a.server.Subscribe(topic+"/result", func(m *broker.Message) {
		var is struct{ ID string }
		if json.Unmarshal(m.Payload, &is) == nil && is.ID == c.ID {
			select {
			case answers <- json.RawMessage(m.Payload):
			default: // the first one counts
			}
		}
	})
	if err != nil {
		return nil, err
	}
	defer cancel()
	m := &broker.Message{Topic: topic + "/set", Payload: payload, Expires: true, Expiry: commandExpiry}
	if err := a.server.Publish(m, server.PublishOptions{}); err != nil {
		return nil, err
	}
	select {
	case r := <-answers:
		return r, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

const commandExpiry = 10 // seconds

// recalled is how many messages the journal is searched for older readings, newest last.
const recalled = 100_000

// recall fills charts with readings that are still in the journal, when the page is looked at for the
// first time. It reads beside the running journal and holds nothing up. What is from an earlier boot, and from before
// the clock was set then or is set now, has no place in a chart.
func (a *Agent) recall(ctx context.Context) {
	if a.broken != nil {
		return
	}
	v, err := journal.Inspect(filepath.Join(a.config().DataDir, "journal"))
	if err != nil {
		a.log.Debug("dashboard: no older readings", "error", err)
		return
	}
	add, done := a.dash.history.Before()
	synced := clockSet()
	front := "sensors/" + a.config().Device.ID + "/"
	next := a.journal.Stats().NextSeq
	_ = v.Records(journal.Select{From: next - min(next, recalled)}, func(r *journal.Record) error {
		if r.Message == nil || r.Time.Earlier && !(r.Time.Synced && synced) {
			return ctx.Err()
		}
		name, ok := strings.CutPrefix(r.Message.Topic, front)
		if !ok {
			return ctx.Err()
		}
		add(name, a.date(r.Time), func() (float64, bool) {
			var p struct{ Value *float64 }
			if json.Unmarshal(r.Message.Payload, &p) != nil || p.Value == nil {
				return 0, false
			}
			return *p.Value, true
		})
		return ctx.Err()
	})
	done()
}
