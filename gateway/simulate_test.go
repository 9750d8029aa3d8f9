package gateway

import (
	"context"
	"fmt"
	"testing"
	"time"

	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// TestEveryOutputCanBeSimulated: a configuration with bus: simulated, or --simulate, finds hardware for each driver.
func TestEveryOutputCanBeSimulated(t *testing.T) {
	pi := simulated.New(simulated.Options{})
	h := &hardware{pi: pi}
	for i, d := range outputs.Drivers() {
		c := outputs.Config{Name: d.Name, Driver: d.Name, Bus: "simulated", Options: d.Defaults()}
		for _, o := range d.Options {
			if o.Required {
				c.Options[o.Name] = int64(5) // a line of the Pi that no bus has
			}
		}
		if len(d.Addresses) > 0 {
			c.Bus = fmt.Sprint("simulated-", 1+i) // each expander on its own
			c.Address = d.Addresses[0]
		}
		if err := h.populate(nil, []outputs.Config{c, c}); err != nil {
			t.Errorf("%s: %v", d.Name, err)
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		dev, err := d.Open(ctx, c, bus.NewSet(pi), 1)
		if err != nil {
			t.Errorf("%s: %v", d.Name, err)
			cancel()
			continue
		}
		if v, err := dev.Get(ctx); err != nil || v-1 > d.Tolerance || 1-v > d.Tolerance {
			t.Errorf("%s: at %v, %v, want 1", d.Name, v, err)
		}
		cancel()
		if err := dev.Close(); err != nil { // the next one may want its line
			t.Errorf("%s: close: %v", d.Name, err)
		}
	}
}
