package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/gateway/verify"
	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// fixed is a sensor that always measures the same values: quantities v0, v1 and so on.
type fixed []float64

func (f fixed) Sense(context.Context) (all []sensors.Measurement, err error) {
	for i, v := range f {
		all = append(all, sensors.Measurement{Quantity: fmt.Sprintf("v%d", i), Value: v, Unit: "V"})
	}
	return all, nil
}

func (f fixed) Quantities() (all []sensors.Quantity) {
	for i := range f {
		all = append(all, sensors.Quantity{Name: fmt.Sprintf("v%d", i), Unit: "V"})
	}
	return all
}

func (f fixed) Close() error { return nil }

// TestEveryNumberArrivesOrIsRefused sends numbers of the whole range of float64 from a driver to an upstream: each that
// is finite arrives as it was measured, each that is not fails its reading with a reason, and neither leaves a hole
// among the readings' numbers.
func TestEveryNumberArrivesOrIsRefused(t *testing.T) {
	const each = 50
	edges := fixed{
		math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, 1.79e302, 1.8e302, -1.01e304, 1e21, 1e-6, 5e-7, 4e-7,
		1e-9, 0.1, 1.0 / 3, 2.0 / 3e5, 1<<53 + 2, 0,
	}
	devices := map[string]fixed{"edges": edges, "nan": {1, math.NaN()}, "inf": {math.Inf(-1), 2}}
	rng := rand.New(rand.NewPCG(8, 2))
	for i := range 60 {
		var f fixed
		for range each {
			f = append(f, math.Float64frombits(rng.Uint64()))
		}
		devices[fmt.Sprintf("random%d", i)] = f
	}
	// What is refused, and what becomes of the others by the sensor's name and quantity.
	want, refused := map[string]float64{}, map[string]bool{}
	for name, f := range devices {
		for _, v := range f {
			refused[name] = refused[name] || math.IsNaN(v) || math.IsInf(v, 0)
		}
		for i, v := range f {
			if !refused[name] {
				want[fmt.Sprintf("%s/v%d", name, i)] = v
			}
		}
	}

	up := newFar(t)
	var mu sync.Mutex
	checker, came, over := verify.New(0, 1), map[string]string{}, make(chan struct{})
	if _, err := up.Subscribe("up/sensors/#", func(m *broker.Message) {
		mu.Lock()
		defer mu.Unlock()
		checker.Message(m.Topic, m.Payload)
		came[strings.TrimPrefix(m.Topic, "up/sensors/site/")] = string(m.Payload)
		if len(came) == len(want)+1 {
			close(over)
		}
	}); err != nil {
		t.Fatal(err)
	}
	s := planSite(t, fmt.Sprintf("bridges: [{name: cloud, upstream: [\"mqtt://%s\"], out: [{filter: \"sensors/#\", prefix: up/}]}]\n", up.addr))
	s.start()
	d := sensors.Driver{
		Spec: sensors.Spec{Name: "fixed", Timeout: time.Minute},
		Open: func(_ context.Context, c sensors.Config, _ *bus.Set) (sensors.Sensor, error) {
			return devices[c.Name], nil
		},
	}
	var configs []sensors.Config
	for name := range devices {
		configs = append(configs, sensors.Config{Name: name, Driver: d.Name, Every: time.Hour})
	}
	statuses := make(chan sensors.Status, len(configs))
	supervisor := sensors.NewSupervisor(configs, sensors.SupervisorOptions{
		Drivers: []sensors.Driver{d}, Reading: s.agent.made.readings.reading, Status: func(s sensors.Status) { statuses <- s },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- supervisor.Run(ctx) }()
	for range configs {
		st := <-statuses
		if bad := st.State == sensors.StateFailing && st.Class == sensors.Implausible; bad != refused[st.Sensor] {
			t.Errorf("%+v, refused: %v", st, refused[st.Sensor])
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	// What even supervision would not let through, and what is no topic, takes no number.
	for _, r := range []sensors.Reading{
		{Sensor: "odd", Quantity: "v", Value: math.NaN(), Unit: "V"}, {Sensor: "odd", Quantity: "#", Value: 1, Unit: "V"},
		{Sensor: "last", Quantity: "v", Value: 7, Unit: "V"},
	} {
		s.agent.made.readings.reading(r)
	}
	<-over
	mu.Lock()
	defer mu.Unlock()
	delete(came, "last/v")
	for name, v := range want {
		var got struct{ Value *float64 }
		if err := json.Unmarshal([]byte(came[name]), &got); err != nil || got.Value == nil || *got.Value != v {
			t.Errorf("%s is %v, and %q arrived", name, v, came[name])
		}
	}
	if r := checker.Report(); !r.Complete() || len(r.Devices) != 1 || r.Devices[0].Last != uint64(len(want)+1) || r.Devices[0].Missing > 0 {
		t.Errorf("want %d readings: %+v", len(want)+1, r)
	}
}
