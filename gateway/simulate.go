package gateway

import (
	"fmt"
	"os"
	"slices"

	"holdfast/gateway/config"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// simulate makes the directory of a gateway that touches nothing outside of this process but its
// listeners.
func (a *Agent) simulate() error {
	dir, err := os.MkdirTemp("", "holdfast-simulated-")
	if err != nil {
		return err
	}
	a.close = append(a.close, func() error { return os.RemoveAll(dir) })
	if n := len(a.cfg.Bridges); n > 0 {
		a.log.Warn("simulated readings are not sent upstream", "bridges", n)
	}
	a.cfg = withoutWorld(a.cfg, dir)
	return nil
}

// withoutWorld is a configuration that touches nothing outside of this process but its listeners.
func withoutWorld(cfg *config.Config, dataDir string) *config.Config {
	c := *cfg
	c.DataDir = dataDir
	c.Bridges = nil
	c.Outputs = slices.Clone(c.Outputs)
	for i := range c.Outputs {
		c.Outputs[i].Link = ""
	}
	return &c
}

// newBuses opens nothing yet. Chips of sensors and outputs on simulated buses are connected to the
// simulated Pi.
func (a *Agent) newBuses() error {
	if a.pi == nil {
		a.pi = simulated.New(simulated.Options{})
	}
	a.buses = bus.NewSet(a.pi)
	if a.simulated {
		a.buses = bus.NewSimulatedSet(a.pi)
	}
	a.close = append(a.close, a.buses.Close)
	return a.populate(a.cfg.Sensors, a.cfg.Outputs)
}

// populate connects what is simulated. Where there is something already it is left.
func (a *Agent) populate(all []sensors.Config, moved []outputs.Config) error {
	for _, c := range all {
		if a.simulated || bus.IsSimulated(c.Bus) {
			if err := a.pi.Populate(chips.Drivers(), c); err != nil {
				return err
			}
		}
	}
	for _, c := range moved {
		if !a.simulated && !bus.IsSimulated(c.Bus) {
			continue
		}
		d := outputs.FindDriver(c.Driver)
		addr := c.Address
		if addr == 0 && len(d.Addresses) > 0 {
			addr = d.Addresses[0]
		}
		if d.Model == "" || a.pi.Chip(c.Bus, addr) != nil {
			continue // another output has a place on the same chip
		}
		if _, err := a.pi.Place(d.Model, c.Bus, addr); err != nil {
			return fmt.Errorf("output %s: %w", c.Name, err)
		}
	}
	return nil
}
