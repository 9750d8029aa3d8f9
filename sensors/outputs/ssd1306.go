package outputs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"periph.io/x/conn/v3/gpio"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"
	"periph.io/x/devices/v3/ssd1306"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// Commands of the SSD1306 (Solomon Systech, rev. 1.1, table 9-1) that periph's driver does not send, or not when they are
// needed here.
const (
	oledOff         = 0xAE
	oledOn          = 0xAF
	oledMode        = 0x20 // the order in which data fills the memory
	oledByPage      = 0x02 // of it: the only one in which 00h to 1Fh and B0h to B7h, which periph draws with, are defined
	oledCommand     = 0x00 // control byte on I2C: commands follow (8.1.5.2)
	oledStatusIsOff = 0x40 // of the status byte (8.1.1, 8.1.5.2)

	oledWidth = 128
)

// ssd1306I2C is a display on I2C.
func ssd1306I2C() Driver {
	d := display("ssd1306")
	d.Wiring = "SDA and SCL to the bus, 3.3 V; four pins, 0.96 inch with 128 by 64 dots or 0.91 inch with 128 by 32"
	d.Buses, d.Addresses = []sensors.BusKind{sensors.BusI2C}, []uint16{0x3C, 0x3D}
	d.Claims = func(p sensors.Place) ([]sensors.Claim, error) {
		return []sensors.Claim{{What: "the display on " + p.On(), Option: "address"}}, nil
	}
	d.Open = func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
		b, err := buses.I2C(c.Bus)
		if err != nil {
			return nil, err
		}
		conn := b.Conn()
		o := &oled{height: oledHeight(c.Options), transfers: conn}
		o.command = func(b ...byte) error { return conn.Tx(c.Address, append([]byte{oledCommand}, b...), nil) }
		o.status = func() (byte, error) {
			var s [1]byte
			err := conn.Tx(c.Address, nil, s[:])
			return s[0], err
		}
		o.connect = func(opts *ssd1306.Opts) (*ssd1306.Dev, error) {
			return ssd1306.NewI2C(&oledAt{conn, c.Address, false}, opts)
		}
		return o.open(ctx, c, value)
	}
	return d
}

// ssd1306SPI is a display on SPI, with a line that tells commands from data.
func ssd1306SPI() Driver {
	d := display("ssd1306-spi")
	d.Wiring = "CLK to SCLK, MOSI to MOSI, CS to CE0 or CE1, D/C to the GPIO line dc, RES to 3.3 V (the chip resets itself at power-on), 3.3 V"
	d.Buses = []sensors.BusKind{sensors.BusSPI}
	d.Options = append(d.Options, sensors.Option{Name: "dc", Kind: sensors.OptionInt, Required: true, Min: 0, Max: 511, Doc: "line of D/C: on the Pi's header the BCM number"})
	d.Claims = func(p sensors.Place) ([]sensors.Claim, error) {
		lines, err := sensors.ClaimLines(nil, "dc")(p)
		return append(lines, sensors.Claim{What: "the display on " + p.Bus, Option: "bus"}), err
	}
	d.Open = func(ctx context.Context, c Config, buses *bus.Set, value float64) (Device, error) {
		lines := "" // of the Pi
		if bus.IsSimulated(c.Bus) {
			lines = "simulated"
		}
		dc, err := buses.Output(lines, bus.LineOptions{Offset: int(c.Options["dc"].(int64)), Drive: bus.DrivePushPull}, false)
		if err != nil {
			return nil, fmt.Errorf("dc: %w", err)
		}
		port, err := buses.SPI(c.Bus)
		if err != nil {
			return nil, errors.Join(err, dc.Close())
		}
		pin := &dcPin{Output: dc}
		o := &oled{height: oledHeight(c.Options), transfers: port, close: func() error { return errors.Join(port.Close(), dc.Close()) }}
		conn, err := port.Connect(3300*physic.KiloHertz, spi.Mode0, 8) // data sheet, table 13-4: a clock of at least 100 ns
		if err != nil {
			return nil, errors.Join(err, o.Close())
		}
		o.command = func(b ...byte) error {
			if err := pin.Out(gpio.Low); err != nil {
				return err
			}
			return conn.Tx(b, nil)
		}
		o.connect = func(opts *ssd1306.Opts) (*ssd1306.Dev, error) {
			return ssd1306.NewSPI(&oledPort{Conn: conn}, pin, opts)
		}
		return o.open(ctx, c, value)
	}
	return d
}

// display is what both rows have in common.
func display(name string) Driver {
	return Driver{
		Spec: sensors.Spec{
			Name: name, Doc: "a display of 128 by 64 or 32 dots with the readings, the bridges and the time; on or off",
			Chip: "Solomon Systech SSD1306", Datasheet: "SSD1306 rev. 1.1",
			Options: []sensors.Option{
				{Name: "height", Kind: sensors.OptionString, Default: "64", Allowed: []string{"64", "32"}, Doc: "of the display, in dots"},
				{Name: "rotated", Kind: sensors.OptionBool, Default: false, Doc: "whether it is mounted upside down"},
				{Name: "readings", Kind: sensors.OptionStrings, Doc: "sensors, or single quantities such as air.temperature, in their order; all if not given"},
				{Name: "page", Kind: sensors.OptionDuration, Default: 5 * time.Second, Doc: "how long each page is shown, if there is more than one"},
			},
			Timeout: 2 * time.Second,
		},
		Model: "ssd1306",
		Screen: func(options map[string]any) (columns, rows int) {
			return oledWidth / glyphWidth, oledHeight(options) / glyphHeight
		},
		Validate: func(options map[string]any) error {
			if page := options["page"].(time.Duration); page < time.Second {
				return fmt.Errorf("page: got %v, want at least 1s", page)
			}
			return nil
		},
	}
}

func oledHeight(options map[string]any) int {
	n, _ := strconv.Atoi(options["height"].(string))
	return n
}

// oled is an open display. periph's driver has its registers and finds which part of a picture has changed.
type oled struct {
	height    int
	transfers interface {
		Begin(ctx context.Context)
		Cause(err error) error
	}
	command func(b ...byte) error
	status  func() (byte, error) // nil where nothing can be read
	connect func(*ssd1306.Opts) (*ssd1306.Dev, error)
	close   func() error // nil if there is nothing to release
	opts    ssd1306.Opts
	dev     *ssd1306.Dev
	lines   []string
	on      bool
}

var _ Screen = (*oled)(nil)

func (o *oled) open(ctx context.Context, c Config, value float64) (Device, error) {
	// The narrow displays have their rows one after the other (COM pins, command DAh).
	rotated := c.Options["rotated"].(bool)
	o.opts = ssd1306.Opts{W: oledWidth, H: o.height, MirrorVertical: rotated, MirrorHorizontal: rotated, Sequential: o.height == 32}
	if err := o.Set(ctx, value); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// Set turns the display on, with a picture from the first moment on, or off.
func (o *oled) Set(ctx context.Context, value float64) error {
	o.transfers.Begin(ctx)
	o.on = value != 0
	if !o.on {
		return o.transfers.Cause(o.command(oledOff))
	}
	return o.transfers.Cause(o.setUp())
}

// setUp does all that a chip needs that may have lost its settings, and does not disturb one that has not.
func (o *oled) setUp() (err error) {
	if o.dev, err = o.connect(&o.opts); err != nil {
		return err
	}
	if err := o.command(oledMode, oledByPage); err != nil {
		return err
	}
	if err := o.picture(); err != nil {
		return err
	}
	return o.command(oledOn)
}

func (o *oled) picture() error {
	_, err := o.dev.Write(draw(o.lines, oledWidth, o.height))
	return err
}

// Show draws lines, also while the display is off: it turns on with them.
func (o *oled) Show(ctx context.Context, lines []string) error {
	o.lines = lines
	if !o.on {
		return nil
	}
	o.transfers.Begin(ctx)
	return o.transfers.Cause(o.picture())
}

// Get returns whether the chip says that it is on: one that has lost its power is off. On SPI it says nothing, and gets its
// settings and picture anew instead.
func (o *oled) Get(ctx context.Context) (float64, error) {
	o.transfers.Begin(ctx)
	if o.status == nil {
		if !o.on {
			return 0, o.transfers.Cause(o.command(oledOff))
		}
		return 1, o.transfers.Cause(o.setUp())
	}
	s, err := o.status()
	if err != nil || s&oledStatusIsOff != 0 {
		return 0, o.transfers.Cause(err)
	}
	return 1, nil
}

// Close leaves the display as it is.
func (o *oled) Close() error {
	if o.close == nil {
		return nil
	}
	return o.close()
}

// settings returns what periph sends first without what turns the display off and, before there is a picture, on.
func settings(w []byte, first *bool) []byte {
	if *first || len(w) == 0 {
		return w
	}
	*first = true
	if w[0] == oledOff {
		w = w[1:]
	}
	if n := len(w); n > 0 && w[n-1] == oledOn {
		w = w[:n-1]
	}
	return w
}

// oledAt is the bus with the display at its own address: periph's driver knows 0x3C alone.
type oledAt struct {
	*bus.Conn
	addr  uint16
	begun bool
}

func (b *oledAt) Tx(_ uint16, w, r []byte) error {
	if len(w) > 0 && w[0] == oledCommand {
		w = append([]byte{oledCommand}, settings(w[1:], &b.begun)...)
	}
	return b.Conn.Tx(b.addr, w, r)
}

// oledPort is a port that is connected already.
type oledPort struct {
	spi.Conn
	begun bool
}

func (p *oledPort) Connect(physic.Frequency, spi.Mode, int) (spi.Conn, error) { return p, nil }

func (p *oledPort) Tx(w, r []byte) error { return p.Conn.Tx(settings(w, &p.begun), r) }

// dcPin is the line D/C in the shape that periph wants.
type dcPin struct{ bus.Output }

func (p *dcPin) String() string   { return "dc" }
func (p *dcPin) Name() string     { return "dc" }
func (p *dcPin) Number() int      { return -1 }
func (p *dcPin) Function() string { return "Out" }
func (p *dcPin) Halt() error      { return nil }

func (p *dcPin) Out(l gpio.Level) error {
	if l {
		return p.SetValue(1)
	}
	return p.SetValue(0)
}

func (p *dcPin) PWM(gpio.Duty, physic.Frequency) error { return errors.New("dc: no PWM") }
