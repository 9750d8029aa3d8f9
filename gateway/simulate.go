package gateway

import (
	"fmt"
	"os"
	"slices"

	"holdfast/gateway/config"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// simulate makes of the configuration one that touches nothing outside of this process but its listeners.
func (a *Agent) simulate() error {
	dir, err := os.MkdirTemp("", "holdfast-simulated-")
	if err != nil {
		return err
	}
	a.close = append(a.close, func() error { return os.RemoveAll(dir) })
	cfg := *a.cfg
	cfg.DataDir = dir
	if len(cfg.Bridges) > 0 {
		a.log.Warn("simulated readings are not sent upstream", "bridges", len(cfg.Bridges))
		cfg.Bridges = nil
	}
	cfg.Outputs = slices.Clone(cfg.Outputs)
	for i := range cfg.Outputs {
		cfg.Outputs[i].Link = ""
	}
	a.cfg = &cfg
	return nil
}

// buses opens nothing yet. Chips of sensors and outputs on simulated buses are connected to the
// simulated Pi.
func buses(cfg *config.Config, pi *simulated.Pi, everything bool) (*bus.Set, error) {
	var here []sensors.Config
	for _, c := range cfg.Sensors {
		if everything || bus.IsSimulated(c.Bus) {
			here = append(here, c)
		}
	}
	var moved []outputs.Config
	for _, c := range cfg.Outputs {
		if everything || bus.IsSimulated(c.Bus) {
			moved = append(moved, c)
		}
	}
	if pi == nil && len(here) == 0 && len(moved) == 0 && !everything {
		return bus.NewSet(nil), nil
	}
	if pi == nil {
		pi = simulated.New(simulated.Options{})
	}
	if err := pi.Populate(sensors.Drivers(), here...); err != nil {
		return nil, err
	}
	for _, c := range moved {
		d := outputs.FindDriver(c.Driver)
		addr := c.Address
		if addr == 0 && len(d.Addresses) > 0 {
			addr = d.Addresses[0]
		}
		if d.Model == "" || pi.Chip(c.Bus, addr) != nil {
			continue // another output has a place on the same chip
		}
		if _, err := pi.Place(d.Model, c.Bus, addr); err != nil {
			return nil, fmt.Errorf("output %s: %w", c.Name, err)
		}
	}
	if everything {
		return bus.NewSimulatedSet(pi), nil
	}
	return bus.NewSet(pi), nil
}
