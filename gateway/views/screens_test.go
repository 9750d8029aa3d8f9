package views

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"holdfast/gateway/config"
	"holdfast/gateway/status"
	"holdfast/gateway/tap"
	"holdfast/sensors"
	"holdfast/sensors/outputs"
)

// TestScreenPages: what displays show, in lines of the right length, and never a value that may not be true any more.
func TestScreenPages(t *testing.T) {
	now := time.Date(2026, 11, 29, 14, 5, 9, 0, time.Local)
	sensor := func(name, state string, readings ...status.Reading) status.Sensor {
		return status.Sensor{Name: name, Health: status.Health{State: state}, Readings: readings}
	}
	s := &status.Status{
		Time: now, Device: "greenhouse", Clock: status.Clock{Synchronised: true},
		Sensors: []status.Sensor{
			sensor("air", "ok", status.Reading{Quantity: "temperature", Value: 21.374, Unit: "°C"}, status.Reading{Quantity: "humidity", Value: 62.4, Unit: "%"}),
			sensor("soil", "absent", status.Reading{Quantity: "moisture", Value: 28, Unit: "%"}),
			sensor("roof", "waiting"),
			sensor("cellar", "failing"),
			sensor("a-sensor-with-a-long-name", "ok", status.Reading{Quantity: "power", Value: -12840.2, Unit: "W"}),
		},
		Bridges: []status.Bridge{{Name: "cloud", Since: now.Add(-7*time.Minute - 5*time.Second), Depth: 1234}, {Name: "lan", Connected: true}},
	}
	for _, tt := range []struct {
		name          string
		chosen        []string
		columns, rows int
		want          string
	}{
		{"all", nil, 21, 6, `
greenhouse 1/2  14:05
air temperat 21.37 °C
air humidity  62.40 %
soil            stale
roof                -
cellar          stale
greenhouse 2/2  14:05
a-sensor-wit -12840 W
cloud         down 7m
cloud queued     1234
lan                up`},
		{"some, in their order", []string{"soil", "air.humidity", "nothing"}, 21, 8, `
greenhouse      14:05
soil            stale
air humidity  62.40 %
nothing       unknown
cloud         down 7m
cloud queued     1234
lan                up`},
		{"narrow", []string{"air"}, 12, 2, `
greenh 14:05
air 21.37 °C
greenh 14:05
air  62.40 %
greenh 14:05
clou down 7m
greenh 14:05
cloud q 1234
greenh 14:05
lan       up`},
	} {
		pages := screenPages(s, tt.chosen, tt.columns, tt.rows)
		var lines []string
		for _, p := range pages {
			if len(p) > tt.rows {
				t.Errorf("%s: %d lines, want at most %d", tt.name, len(p), tt.rows)
			}
			lines = append(lines, p...)
		}
		for _, l := range lines {
			if n := utf8.RuneCountInString(l); n != tt.columns {
				t.Errorf("%s: %q has %d characters, want %d", tt.name, l, n, tt.columns)
			}
		}
		if want := strings.Split(strings.TrimSpace(tt.want), "\n"); !reflect.DeepEqual(lines, want) {
			t.Errorf("%s: got\n%s\nwant\n%s", tt.name, strings.Join(lines, "\n"), tt.want)
		}
	}
	if got := screenPages(&status.Status{Time: now, Device: "d"}, nil, 21, 8); !reflect.DeepEqual(got, [][]string{{"d              14:05?"}}) {
		t.Errorf("nothing at all: %q", got)
	}
}

// TestScreensOfAnotherConfiguration: a display that a change of the configuration brings is drawn within a second, at
// its pace, and one that is gone is not drawn any more.
func TestScreensOfAnotherConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		v := New(Options{Config: &config.Config{}, Hub: tap.NewHub(log), Log: log})
		var now atomic.Pointer[config.Config]
		without := &config.Config{Device: config.Device{ID: "d"}}
		with := &config.Config{Device: config.Device{ID: "d"}, Outputs: []outputs.Config{
			{Name: "pump", Driver: "gpio-output"}, {Name: "panel", Driver: "ssd1306", Options: outputs.FindDriver("ssd1306").Defaults()},
		}}
		for i := range 9 {
			with.Sensors = append(with.Sensors, sensors.Config{Name: fmt.Sprintf("s%d", i)})
		}
		now.Store(without)
		v.Config, v.Bridges = now.Load, func() []status.Bridge { return nil }
		var drawn []string // titles
		screens := v.Screens(func(name string, lines []string) { drawn = append(drawn, name+" "+lines[0]) })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- screens.Run(ctx) }()
		change := func(next *config.Config, wait time.Duration) (titles []string) {
			c, err := screens.Prepare(next)
			if err != nil {
				t.Fatal(err)
			}
			now.Store(next)
			c.Apply()
			time.Sleep(wait)
			synctest.Wait()
			titles, drawn = drawn, nil
			return titles
		}
		time.Sleep(time.Minute)
		if len(drawn) > 0 {
			t.Errorf("without a display: %q", drawn)
		}
		titles := change(with, 20500*time.Millisecond)
		pages := map[string]int{}
		for _, title := range titles {
			pages[title[:len("panel d 1/2")]]++
		}
		if len(titles) < 20 || len(titles) > 22 || len(pages) != 2 || pages["panel d 1/2"] < 8 || pages["panel d 2/2"] < 8 {
			t.Errorf("in 20 s: %q", titles)
		}
		change(without, time.Second)
		if titles := change(without, time.Minute); len(titles) > 0 {
			t.Errorf("without a display again: %q", titles)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestShown(t *testing.T) {
	for want, v := range map[string]float64{
		"0.00": 0, "21.37": 21.374, "-0.500": -0.5, "0.004": 0.004, "4e-07": 4e-7, "1013.2": 1013.24, "2500": 2500, "12840": 12840.2, "1.01e+304": 1.0123e304,
	} {
		if got := shown(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
