package gateway

import (
	"fmt"
	"os"
	"slices"

	"holdfast/gateway/config"
	"holdfast/gateway/part"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// hardware is the part that owns the buses. It connects chips of sensors and outputs on simulated buses to a
// simulated Pi.
type hardware struct {
	buses     *bus.Set
	pi        *simulated.Pi
	simulated bool // every bus

	sensors []sensors.Config
	outputs []outputs.Config
}

// newHardware opens nothing yet.
func newHardware(cfg *config.Config, opts Options) (*hardware, error) {
	h := &hardware{pi: opts.Pi, simulated: opts.Simulate}
	if h.pi == nil {
		h.pi = simulated.New(simulated.Options{})
	}
	h.buses = bus.NewSet(h.pi)
	if h.simulated {
		h.buses = bus.NewSimulatedSet(h.pi)
	}
	_, err := h.prepare(cfg)
	return h, err
}

// prepare places the chips of what is new or changed. One that is placed stays, also if the change is undone.
func (h *hardware) prepare(next *config.Config) (part.Change, error) {
	s := config.Compare(h.sensors, next.Sensors, func(c sensors.Config) string { return c.Name }, sensors.Config.Equal)
	o := config.Compare(h.outputs, next.Outputs, func(c outputs.Config) string { return c.Name }, nil)
	if err := h.populate(s.Begin, o.Begin); err != nil {
		return part.Change{}, err
	}
	apply := func() { h.sensors, h.outputs = next.Sensors, next.Outputs }
	if h.sensors == nil && h.outputs == nil {
		apply()
	}
	return part.Change{Apply: apply}, nil
}

// part is the hardware as a Part.
func (h *hardware) part() part.Part { return part.Simple{Called: "hardware", Change: h.prepare} }

// temporaryDir makes the directory of a gateway that touches nothing outside of this process but its listeners.
func temporaryDir() (dir string, remove func() error, err error) {
	dir, err = os.MkdirTemp("", "holdfast-simulated-")
	return dir, func() error { return os.RemoveAll(dir) }, err
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

// simulatedPWMs is how many channels a simulated PWM chip has: as many as the option channel allows.
const simulatedPWMs = 64

// populate connects simulated chips. It leaves those that are connected already.
func (h *hardware) populate(all []sensors.Config, moved []outputs.Config) error {
	for _, c := range all {
		if h.simulated || bus.IsSimulated(c.Bus) {
			if err := h.pi.Populate(chips.Drivers(), c); err != nil {
				return err
			}
		}
	}
	for _, c := range moved {
		if !h.simulated && !bus.IsSimulated(c.Bus) {
			continue
		}
		d := outputs.FindDriver(c.Driver)
		addr := c.Address
		if addr == 0 && len(d.Addresses) > 0 {
			addr = d.Addresses[0]
		}
		if d.PWM {
			about, _ := c.Options["chip"].(string)
			h.pi.PWM(about, simulatedPWMs)
		}
		if d.Model == "" {
			continue
		}
		chip := h.pi.Chip(c.Bus, addr)
		if chip == nil { // or another output has a place on the same chip
			var err error
			if chip, err = h.pi.Place(d.Model, c.Bus, addr); err != nil {
				return fmt.Errorf("output %s: %w", c.Name, err)
			}
		}
		// Nothing pulls a pin down that is an output: a PCF8574 is high only weakly.
		pin := fmt.Sprint("pin", c.Options["pin"])
		if slices.ContainsFunc(chip.Model.Inputs, func(in simulated.Input) bool { return in.Name == pin }) {
			chip.Set(pin, 1)
		}
		if dc, ok := c.Options["dc"].(int64); ok {
			chip.DataCommand(h.pi.GPIO(int(dc)))
		}
	}
	return nil
}
