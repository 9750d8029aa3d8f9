package views

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/server"
	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/gateway/web"
	"holdfast/sensors/outputs"
)

// page is what the dashboard shows beside the status.
type page struct {
	history *web.History

	mu        sync.Mutex
	timelines map[string]*web.Timeline // by bridge
}

// take handles one event.
func (p *page) take(e tap.Event) {
	switch e := e.(type) {
	case tap.Reading:
		p.history.Add(e.Sensor+"/"+e.Quantity, e.Time, e.Value)
	case tap.Connection:
		p.timeline(e.Bridge).Changed(e.Connected, e.Err)
	}
}

func (p *page) timeline(bridge string) *web.Timeline {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.timelines[bridge]
	if t == nil {
		t = web.NewTimeline()
		p.timelines[bridge] = t
	}
	return t
}

// History is what charts show; nil without a dashboard. It has everything that was published before.
func (v *Views) History() *web.History {
	v.flush()
	return v.page.history
}

// Dashboard completes the options of a dashboard's server with what it shows.
func (v *Views) Dashboard(opts web.Options) *web.Server {
	opts.Look, opts.Opened, opts.Command, opts.History = v.Snapshot, v.BackfillHistory, v.Command, v.page.history
	s := web.New(opts)
	s.Handle("GET /metrics", web.View, v.Metrics())
	s.Probe("/healthz", v.Healthz())
	s.Probe("/readyz", v.Readyz())
	return s
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

// Snapshot returns what the page shows. The names of the keys are the page's.
func (v *Views) Snapshot() map[string]any {
	s := v.Status()
	o := overview{Version: s.Version, Started: s.Started, State: s.State, Problems: s.Problems, Power: s.Power,
		Sensors: []string{}, Outputs: []string{}, Bridges: []string{}}
	all := map[string]any{"journal": s.Journal, "clients": s.Clients}
	for _, x := range s.Sensors {
		o.Sensors = append(o.Sensors, x.Name)
		x.Taken, x.Missed = 0, 0 // they change with every reading, and are not shown
		all["sensor/"+x.Name] = x
	}
	for _, x := range s.Outputs {
		o.Outputs = append(o.Outputs, x.Name)
		all["output/"+x.Name] = describeOutput(x, v.outputConfig(x.Name))
	}
	for _, x := range s.Bridges {
		o.Bridges = append(o.Bridges, x.Name)
		all["bridge/"+x.Name] = x
		all["timeline/"+x.Name] = v.page.timeline(x.Name).Periods()
	}
	all["gateway"] = o
	all["history"] = v.page.history.Version()
	all["losses"] = lossRanges(v.Journal.Losses())
	return all
}

// outputConfig is that of an output, nil if there is none of this name.
func (v *Views) outputConfig(name string) *outputs.Config {
	all := v.Config().Outputs
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

// shownLosses is how many ranges the page shows.
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

// Command moves an output on the path of every other command. It is of QoS 0, and expires soon: a person who
// presses a button means now, not after the next start.
func (v *Views) Command(ctx context.Context, name string, c web.Command) (json.RawMessage, error) {
	if v.outputConfig(name) == nil {
		return nil, errors.New("there is no output of this name")
	}
	payload, err := json.Marshal(map[string]any{"value": c.Value, "id": c.ID, "by": c.By})
	if err != nil {
		return nil, err
	}
	topic := "outputs/" + v.Config().Device.ID + "/" + name
	answers := make(chan json.RawMessage, 1)
	cancel, err := v.Server.Subscribe(topic+"/result", func(m *broker.Message) {
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
	if err := v.Server.Publish(m, server.PublishOptions{}); err != nil {
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

// backfilled is how many messages the journal is searched for older readings, newest last.
const backfilled = 100_000

// BackfillHistory fills charts with readings that are still in the journal, when the page is opened for the
// first time. It reads beside the running journal and holds nothing up. It skips readings of an earlier boot that were
// taken before the clock was set, and all of an earlier boot while the clock is not set now.
func (v *Views) BackfillHistory(ctx context.Context) {
	if v.Broken != nil {
		return
	}
	add, done := v.page.history.Before()
	_, synced := journal.Now()
	front := "sensors/" + v.Config().Device.ID + "/"
	next := v.Journal.Stats().NextSeq
	err := v.Journal.Records(journal.Select{From: next - min(next, backfilled)}, func(r *journal.Record) error {
		if r.Message == nil || r.Time.Earlier && !(r.Time.Synced && synced) {
			return ctx.Err()
		}
		name, ok := strings.CutPrefix(r.Message.Topic, front)
		if !ok {
			return ctx.Err()
		}
		add(name, v.Journal.Date(r.Time), func() (float64, bool) {
			var p struct{ Value *float64 }
			if json.Unmarshal(r.Message.Payload, &p) != nil || p.Value == nil {
				return 0, false
			}
			return *p.Value, true
		})
		return ctx.Err()
	})
	done()
	if err != nil && ctx.Err() == nil {
		v.log.Debug("dashboard: older readings cannot be read", "error", err)
	}
}
