package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/gateway"
	"holdfast/gateway/config"
	"holdfast/gateway/tap"
	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// output runs a command line and returns what it prints.
func output(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := rootCommand()
	root.SetOut(&out)
	root.SetArgs(args)
	err := root.ExecuteContext(t.Context())
	return out.String(), err
}

// TestWhatIsScannedPassesTheCheckAndRuns: the YAML of `holdfast scan --simulate`, unchanged.
func TestWhatIsScannedPassesTheCheckAndRuns(t *testing.T) {
	text, err := output(t, "scan", "--simulate")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "scan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := output(t, "check", "-c", file); err != nil || !strings.HasPrefix(text, "ok: ") {
		t.Fatalf("check: %s %v", text, err)
	}
	cfg, err := load([]string{file})
	if err != nil || len(cfg.Sensors) < 10 {
		t.Fatalf("%d sensors, %v", len(cfg.Sensors), err)
	}
	synctest.Test(t, func(t *testing.T) {
		pi, err := simulated.Everything(simulated.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		read := map[string]bool{}
		s := sensors.NewSupervisor(cfg.Sensors, sensors.SupervisorOptions{
			Buses: bus.NewSimulatedSet(pi), Drivers: chips.Drivers(),
			Reading: func(r sensors.Reading) {
				mu.Lock()
				defer mu.Unlock()
				read[r.Sensor] = true
			},
			Status: func(s sensors.Status) {
				if s.State != sensors.StateOK {
					t.Errorf("%s: %s, %s", s.Sensor, s.State, s.Reason)
				}
			},
		})
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		s.Run(ctx)
		for _, c := range cfg.Sensors {
			if !read[c.Name] {
				t.Errorf("%s was found and has no reading", c.Name)
			}
		}
	})
}

// witness waits for a reading of every sensor.
type witness struct {
	mu      sync.Mutex
	missing map[string]bool
	all     chan struct{}
}

func (w *witness) take(e tap.Event) {
	r, ok := e.(tap.Reading)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.missing, r.Sensor); len(w.missing) == 0 && w.all != nil {
		close(w.all)
		w.all = nil
	}
}

// TestShippedExamplesRunAnywhere: with --simulate, a device's configuration needs none of its hardware,
// and neither its data directory nor its upstream.
func TestShippedExamplesRunAnywhere(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			cfg, err := config.Load([]string{file}, config.Options{
				Drivers: chips.Drivers(), Outputs: outputs.Drivers(), Hostname: os.Hostname, Getenv: func(string) (string, bool) { return "x", true },
			})
			if err != nil {
				t.Fatal(err)
			}
			if len(cfg.Sensors)+len(cfg.Outputs) == 0 {
				return // a broker alone: there is nothing to simulate
			}
			cfg.Broker.Listeners, cfg.Web = nil, config.Web{} // their ports may be taken here
			w := &witness{missing: map[string]bool{}, all: make(chan struct{})}
			for _, s := range cfg.Sensors {
				// These read commands, files and topics, which simulating hardware does not make.
				if !slices.Contains([]string{"exec", "file", "mqtt"}, s.Driver) {
					w.missing[s.Name] = true
				}
			}
			all := w.all
			if len(w.missing) == 0 {
				close(all)
			}
			a, err := gateway.New(cfg, gateway.Options{Simulate: true, Taps: []tap.Options{{Name: "witness", Take: w.take}}, Log: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- a.Run(ctx) }()
			select {
			case <-all:
			case <-time.After(time.Minute):
				t.Errorf("no reading of %v", w.missing)
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReadOneSensor(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the output, or in the error
		bad  bool
	}{
		{[]string{"--driver", "bme280", "--bus", "i2c-1", "--address", "0x77", "-v"}, "i2c-1 0x77  > d0  < 60", false},
		{[]string{"--driver", "bme280", "--bus", "spi-0.0", "-v"}, "temperature    ", false},
		{[]string{"--driver", "am2320", "--bus", "i2c-1"}, "humidity", false}, // has to be waited for
		{[]string{"--driver", "ads1115", "--bus", "i2c-1", "--option", "channel=2", "--option", "rate=8"}, "voltage", false},
		{[]string{"--driver", "ads1115", "--bus", "i2c-1", "--option", "channel=7"}, `channel: got "7"`, true},
		{[]string{"--driver", "bme280"}, "bus: missing", true},
		{[]string{"--driver", "bme820", "--bus", "i2c-1"}, `did you mean "bme280"`, true},
		{[]string{"air", "-c", "../../deploy/examples/simulated.yaml"}, "temperature", false},
		{[]string{"nobody", "-c", "../../deploy/examples/simulated.yaml"}, `no sensor "nobody"`, true},
		{nil, "want the name", true},
	} {
		text, err := output(t, append([]string{"read", "--simulate"}, tt.args...)...)
		if err != nil {
			text = err.Error()
		}
		if (err != nil) != tt.bad || !strings.Contains(text, tt.want) {
			t.Errorf("read %v: got %s, want %s", tt.args, text, tt.want)
		}
	}
}

func TestSensorsSaysEverything(t *testing.T) {
	list, err := output(t, "sensors")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range chips.Drivers() {
		text, err := output(t, "sensors", d.Name)
		if err != nil || !strings.Contains(list, d.Name) {
			t.Errorf("%s: %v", d.Name, err)
		}
		for _, o := range d.Options {
			if !strings.Contains(text, o.Name+": ") || !strings.Contains(text, o.Doc) {
				t.Errorf("%s: option %s is not in\n%s", d.Name, o.Name, text)
			}
		}
		for _, want := range []string{d.Doc, d.Chip, d.Wiring, d.Datasheet} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: %q is not in\n%s", d.Name, want, text)
			}
		}
	}
	if _, err := output(t, "sensors", "bme820"); err == nil {
		t.Error("no such driver, and no error")
	}
}

func TestOutputsSaysEverything(t *testing.T) {
	list, err := output(t, "outputs")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range outputs.Drivers() {
		text, err := output(t, "outputs", d.Name)
		if err != nil || !strings.Contains(list, d.Name) || !strings.Contains(text, d.Doc) {
			t.Errorf("%s: %v\n%s", d.Name, err, text)
		}
		for _, o := range d.Options {
			if !strings.Contains(text, o.Name+": ") || !strings.Contains(text, o.Doc) {
				t.Errorf("%s: option %s is not in\n%s", d.Name, o.Name, text)
			}
		}
	}
	if _, err := output(t, "outputs", "pca9685", "bme280"); err == nil || !strings.Contains(err.Error(), "holdfast sensors") {
		t.Errorf("a sensor's driver: %v", err)
	}
}
