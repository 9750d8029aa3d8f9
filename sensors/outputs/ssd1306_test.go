package outputs_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/outputs"
	"holdfast/sensors/simulated"
)

var page = []string{
	"greenhouse 1/2  14:05",
	"air temperatu 21.37°C",
	"air humidity  62.41 %",
	"soil            stale",
	"light        12840 lx",
	"cloud         down 7m",
	"cloud queued     1234",
	"Öl & Wasser: µ² ~ @#{",
}

// panel is a display on either bus.
type panel struct {
	pi     *simulated.Pi
	chip   *simulated.Chip
	config outputs.Config
}

func newPanel(t *testing.T, driver string, change map[string]any) *panel {
	t.Helper()
	x := &panel{pi: simulated.New(simulated.Options{})}
	x.config = outputs.Config{Name: "panel", Driver: driver, Bus: "simulated", Safe: 1, Options: options(driver, change)}
	if driver == "ssd1306" {
		x.config.Address = 0x3D
	}
	var err error
	if x.chip, err = x.pi.Place("ssd1306", "simulated", x.config.Address); err != nil {
		t.Fatal(err)
	}
	if driver == "ssd1306-spi" {
		x.config.Options["dc"] = int64(25)
		x.chip.DataCommand(x.pi.GPIO(25))
	}
	return x
}

func (x *panel) now() image.Image {
	now, _ := x.chip.Picture()
	return now
}

func same(a, b image.Image) bool {
	if a.Bounds() != b.Bounds() {
		return false
	}
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			if color.GrayModel.Convert(a.At(x, y)) != color.GrayModel.Convert(b.At(x, y)) {
				return false
			}
		}
	}
	return true
}

func dark(height int) image.Image { return image.NewGray(image.Rect(0, 0, 128, height)) }

// turned is a picture upside down.
func turned(a image.Image) image.Image {
	b := image.NewGray(a.Bounds())
	for y := range a.Bounds().Dy() {
		for x := range a.Bounds().Dx() {
			b.Set(a.Bounds().Dx()-1-x, a.Bounds().Dy()-1-y, a.At(x, y))
		}
	}
	return b
}

// photograph compares what a display shows with a picture of README.md, with frame around it and dots of 4 by 4.
func photograph(t *testing.T, name string, of image.Image) {
	t.Helper()
	const dot, frame = 4, 12
	w, h := of.Bounds().Dx()*dot+2*frame, of.Bounds().Dy()*dot+2*frame
	img := image.NewPaletted(image.Rect(0, 0, w, h), color.Palette{color.RGBA{8, 12, 24, 255}, color.RGBA{120, 200, 255, 255}})
	for y := range of.Bounds().Dy() * dot {
		for x := range of.Bounds().Dx() * dot {
			if color.GrayModel.Convert(of.At(x/dot, y/dot)).(color.Gray).Y > 0 && x%dot > 0 && y%dot > 0 {
				img.SetColorIndex(frame+x, frame+y, 1)
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := png.Decode(bytes.NewReader(want))
	if err != nil || !same(kept, img) {
		t.Errorf("%s is not what the display shows: run with -update and look at it", name)
	}
}

// TestSSD1306 shows text on a display on each bus, from the first moment at which it is on.
func TestSSD1306(t *testing.T) {
	var upright image.Image
	for _, driver := range []string{"ssd1306", "ssd1306-spi"} {
		synctest.Test(t, func(t *testing.T) {
			x := newPanel(t, driver, nil)
			set := bus.NewSet(x.pi)
			d, err := open(set, x.config, 1)
			if err != nil {
				t.Fatal(err)
			}
			screen, ctx := d.(outputs.Screen), context.Background()
			if _, at := x.chip.Picture(); len(at) != 1 || !same(at[0], dark(64)) {
				t.Errorf("%s: it came on with what was in its memory", driver)
			}
			if err := screen.Show(ctx, page); err != nil {
				t.Fatal(err)
			}
			if upright == nil {
				upright = x.now()
				photograph(t, "ssd1306.png", upright)
			} else if !same(x.now(), upright) {
				t.Errorf("%s shows something else", driver)
			}
			// A small change is drawn where it belongs.
			other := append([]string(nil), page...)
			other[3], other[7] = "soil             28 %", ""
			if err := errors.Join(screen.Show(ctx, other), screen.Show(ctx, page)); err != nil || !same(x.now(), upright) {
				t.Errorf("%s after a change and back: %v", driver, err)
			}
			// Off, and on again with what has come meanwhile.
			if err := errors.Join(screen.Set(ctx, 0), screen.Show(ctx, other)); err != nil || !same(x.now(), dark(64)) {
				t.Errorf("%s off: %v", driver, err)
			}
			if got, err := screen.Get(ctx); got != 0 || err != nil {
				t.Errorf("%s off: reads %v, %v", driver, got, err)
			}
			if err := screen.Set(ctx, 1); err != nil {
				t.Fatal(err)
			}
			if _, at := x.chip.Picture(); !same(at[len(at)-1], x.now()) || same(x.now(), upright) {
				t.Errorf("%s on again: it showed something else at first", driver)
			}
			if got, err := screen.Get(ctx); got != 1 || err != nil {
				t.Errorf("%s on: reads %v, %v", driver, got, err)
			}
			if err := d.Close(); err != nil || same(x.now(), dark(64)) {
				t.Errorf("%s closed: it went dark, %v", driver, err)
			}
		})
	}
	for name, change := range map[string]map[string]any{"rotated": {"rotated": true}, "narrow": {"height": "32"}, "narrow and rotated": {"height": "32", "rotated": true}} {
		synctest.Test(t, func(t *testing.T) {
			x := newPanel(t, "ssd1306", change)
			d, err := open(bus.NewSet(x.pi), x.config, 1)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.(outputs.Screen).Show(context.Background(), page); err != nil {
				t.Fatal(err)
			}
			got := x.now()
			if change["rotated"] == true {
				got = turned(got)
			}
			want := upright.(*image.Gray).SubImage(got.Bounds())
			if !same(got, want) {
				t.Errorf("%s: not the upper part of the same picture", name)
			}
		})
	}
}

// TestDisplayComesBack: a controller draws the newest lines again when a display has lost its power or was unplugged, and
// reports it meanwhile.
func TestDisplayComesBack(t *testing.T) {
	for _, driver := range []string{"ssd1306", "ssd1306-spi"} {
		synctest.Test(t, func(t *testing.T) {
			x := newPanel(t, driver, nil)
			var last atomic.Pointer[sensors.Status]
			c := outputs.New([]outputs.Config{x.config}, outputs.Options{
				Buses: bus.NewSet(x.pi), State: func(outputs.State) {}, Status: func(s sensors.Status) { last.Store(&s) },
			})
			c.Secure()
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan struct{})
			go func() { _ = c.Run(ctx); close(ended) }()
			c.Show("panel", []string{"old"})
			c.Show("panel", page)
			c.Show("other", page)
			time.Sleep(time.Second)
			want := x.now()
			if same(want, dark(64)) {
				t.Fatal("nothing is shown")
			}
			x.chip.Fault(simulated.PowerCycle)
			time.Sleep(time.Second)
			if driver == "ssd1306" && !same(x.now(), dark(64)) {
				t.Error("the model does not lose its power")
			}
			time.Sleep(15 * time.Second)
			if !same(x.now(), want) {
				t.Errorf("%s after an interruption of its power: not as before", driver)
			}
			if driver == "ssd1306" {
				x.chip.Fault(simulated.Unplugged)
				time.Sleep(15 * time.Second)
				if s := last.Load(); s.State != sensors.StateAbsent {
					t.Errorf("unplugged: %+v", s)
				}
				c.Show("panel", page[:7])
				x.chip.Fault(0)
				time.Sleep(2 * time.Minute)
				if s := last.Load(); s.State != sensors.StateOK || same(x.now(), want) || same(x.now(), dark(64)) {
					t.Errorf("plugged in: %+v", s)
				}
				c.Show("panel", page)
				time.Sleep(time.Second)
				if !same(x.now(), want) {
					t.Error("plugged in: something else is shown")
				}
			}
			cancel()
			<-ended
		})
	}
}
