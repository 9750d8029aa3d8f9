package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"holdfast/gateway/config"
	"holdfast/gateway/part"
	"holdfast/gateway/tap"
	"holdfast/sensors"
)

// measuring is the part that runs the sensors and publishes their readings.
type measuring struct {
	*sensors.Supervisor
	readings *publisher
	hub      *tap.Hub

	configured []sensors.Config
	until      context.Context // of all measuring: see StopSensors
	stop       context.CancelFunc

	mu      sync.Mutex
	failing map[string]sensors.State // of sensors that are not well
}

var _ part.Part = (*measuring)(nil)

// newMeasuring makes a supervisor with opts, whose callbacks are set here.
func newMeasuring(all []sensors.Config, opts sensors.SupervisorOptions, readings *publisher, hub *tap.Hub) *measuring {
	m := &measuring{readings: readings, hub: hub, configured: all, failing: map[string]sensors.State{}}
	opts.Status, opts.Reading = m.status, readings.reading
	m.Supervisor = sensors.NewSupervisor(all, opts)
	m.until, m.stop = context.WithCancel(context.Background())
	return m
}

// Name returns "sensors".
func (m *measuring) Name() string { return "sensors" }

// Run measures until ctx ends or stop is called.
func (m *measuring) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, m.stop)()
	m.readings.clear(nil) // sensors may be gone, or theirs not be retained any more, since the last stop
	if err := m.Supervisor.Run(m.until); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// status publishes how a sensor is doing.
func (m *measuring) status(s sensors.Status) {
	m.mu.Lock()
	if s.State == sensors.StateOK {
		delete(m.failing, s.Sensor)
	} else {
		m.failing[s.Sensor] = s.State
	}
	m.mu.Unlock()
	m.readings.status(s)
}

// Health names the sensors that are not well, and those that miss readings.
func (m *measuring) Health() error {
	var list []string
	for name, n := range m.Counts() {
		if n.Behind {
			list = append(list, name+" misses readings")
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, state := range m.failing {
		list = append(list, fmt.Sprintf("%s %s", name, state))
	}
	if len(list) == 0 {
		return nil
	}
	slices.Sort(list)
	return errors.New(strings.Join(list, ", "))
}

// Prepare stops sensors that are gone or changed before anything else, and starts others when everything else is done.
func (m *measuring) Prepare(next *config.Config) (part.Change, error) {
	d := config.Compare(m.configured, next.Sensors, func(c sensors.Config) string { return c.Name }, sensors.Config.Equal)
	lines := d.Describe("sensor")
	retained := m.readings.retains()
	for _, c := range next.Sensors {
		if next.Retained[c.Name] != retained[c.Name] && !slices.Contains(d.Added, c.Name) && !slices.Contains(d.Changed, c.Name) {
			lines = append(lines, "sensor "+c.Name+": changed")
		}
	}
	return part.Change{
		Stop: func() {
			m.Supervisor.Change(d.Stop(), nil)
			m.hub.Publish(tap.Forgotten{Names: d.Stop()})
			m.readings.retain(next.Retained)
			m.readings.clear(d.Stop())
			m.mu.Lock()
			for _, name := range d.Stop() {
				delete(m.failing, name)
			}
			m.mu.Unlock()
			for _, name := range d.Removed {
				m.readings.unpublish("status/" + m.readings.device + "/" + name)
			}
		},
		Apply: func() {
			m.Supervisor.Change(nil, d.Begin)
			m.configured = next.Sensors
		},
		Describe: func() []string { return lines },
	}, nil
}
