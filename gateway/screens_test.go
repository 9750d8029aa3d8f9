package gateway

import (
	"context"
	"image"
	"image/color"
	"slices"
	"strings"
	"testing"

	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

// lit counts the dots of a picture.
func lit(of image.Image) (n int) {
	for y := range of.Bounds().Dy() {
		for x := range of.Bounds().Dx() {
			if color.GrayModel.Convert(of.At(x, y)).(color.Gray).Y > 0 {
				n++
			}
		}
	}
	return n
}

// TestDisplay: a display shows the gateway's readings from the start on, `stale` once a sensor is pulled and its value
// when it is back; a command turns it off and on.
func TestDisplay(t *testing.T) {
	const air = "sensors: [{name: air, driver: bme280, bus: simulated, every: 100ms}]\n"
	s := newSite(t, air+"outputs: [{name: panel, driver: ssd1306, bus: simulated-2, safe: on}]\n")
	shown := func() int {
		picture, _ := s.pi.Chip("simulated-2", 0x3C).Picture()
		return lit(picture)
	}
	if !s.eventually(func() bool { return shown() > 300 }) {
		t.Fatalf("%d dots are lit", shown())
	}
	// What it is given to show, beside what the chip shows.
	lines := make(chan []string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- s.agent.made.views.Screens(func(name string, l []string) {
			if name != "panel" {
				t.Errorf("lines for %s", name)
			}
			lines <- l
		}).Run(ctx)
	}()
	says := func(text string, want bool) {
		t.Helper()
		var last []string
		if !s.eventually(func() bool {
			last = <-lines
			return slices.ContainsFunc(last, func(l string) bool { return strings.Contains(l, text) }) == want
		}) {
			t.Fatalf("%q on the display, wanted: %v\n%s", text, want, strings.Join(last, "\n"))
		}
	}
	says("°C", true)
	s.pi.Chip("simulated", 0x76).Fault(simulated.Unplugged)
	says("stale", true)
	says("°C", false)
	s.pi.Chip("simulated", 0x76).Fault(0)
	says("stale", false)
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	s.command("panel", "off")
	s.state("panel", 0, outputs.ByCommand)
	if n := shown(); n != 0 {
		t.Errorf("off: %d dots are lit", n)
	}
	s.command("panel", "on")
	s.state("panel", 1, outputs.ByCommand)
	if n := shown(); n < 300 {
		t.Errorf("on again: %d dots are lit", n)
	}
}
