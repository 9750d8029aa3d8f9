package bus

import (
	"regexp"
	"strings"
)

// Kind is a kind of bus.
type Kind string

// The kinds of bus. None is that of a driver that needs no bus at all.
const (
	None     Kind = ""
	I2CKind  Kind = "i2c"
	SPIKind  Kind = "spi"
	UARTKind Kind = "uart"
	W1Kind   Kind = "w1"
	GPIOKind Kind = "gpio"
)

// Names is how the buses of a kind are called in a configuration.
type Names struct {
	Pattern *regexp.Regexp
	Want    string // in words, with an example
	Must    bool   // there is more than one place, so the configuration has to say which
}

// NamesOf returns how the buses of a kind are called, beside the simulated ones.
func NamesOf(k Kind) Names { return names[k] }

var names = map[Kind]Names{
	// A channel of a multiplexer is a bus: its address and channel follow the bus it is on.
	I2CKind:  {regexp.MustCompile(`^i2c-\d{1,3}(/0x7[0-7]/[0-7])?$`), "i2c-N such as i2c-1", true},
	SPIKind:  {regexp.MustCompile(`^spi-\d{1,3}\.\d{1,3}$`), "spi-BUS.CHIP such as spi-0.0", true},
	UARTKind: {regexp.MustCompile(`^/dev/[A-Za-z0-9][A-Za-z0-9/_.:-]*$`), "a serial port such as /dev/serial0", true},
	W1Kind:   {regexp.MustCompile(`^w1$`), "w1 or none", false},
	GPIOKind: {regexp.MustCompile(`^$`), "none", false},
	None:     {regexp.MustCompile(`^$`), "none", false},
}

// simulatedName are the simulated buses: "simulated", "simulated-2", and with a kind for chips that can
// be on several: "simulated-spi", "simulated-spi-1".
var simulatedName = regexp.MustCompile(`^simulated(-(i2c|spi|uart))?(-\d{1,3}(\.\d{1,3})?)?(/0x7[0-7]/[0-7])?$`)

// IsSimulated reports whether a name is one of a simulated bus.
func IsSimulated(name string) bool { return simulatedName.MatchString(name) }

// KindOf is the kind that a bus name stands for, None if the name does not tell.
func KindOf(name string) Kind {
	if m := simulatedName.FindStringSubmatch(name); m != nil {
		return Kind(m[2])
	}
	for _, k := range []Kind{I2CKind, SPIKind, UARTKind, W1Kind} {
		if names[k].Pattern.MatchString(name) {
			return k
		}
	}
	return None
}

// HeaderLine is a line of the Pi's header that is wired to a bus, and what it is there.
type HeaderLine struct {
	Offset int
	Name   string // "SDA of i2c-1"
}

// HeaderLines returns the lines of a Pi's 40-pin header that a bus is wired to as long as it is switched on, none for other
// buses (Raspberry Pi documentation, "GPIO and the 40-pin header").
func HeaderLines(name string) (all []HeaderLine) {
	shared := Shared(name)
	pins := map[string][]HeaderLine{
		"i2c-0": {{0, "SDA"}, {1, "SCL"}}, "i2c-1": {{2, "SDA"}, {3, "SCL"}},
		"spi-0": {{9, "MISO"}, {10, "MOSI"}, {11, "SCLK"}}, "spi-1": {{19, "MISO"}, {20, "MOSI"}, {21, "SCLK"}},
		"/dev/serial0": {{14, "TXD"}, {15, "RXD"}}, "/dev/ttyAMA0": {{14, "TXD"}, {15, "RXD"}}, "/dev/ttyS0": {{14, "TXD"}, {15, "RXD"}},
	}
	for _, l := range pins[shared] {
		all = append(all, HeaderLine{l.Offset, l.Name + " of " + shared})
	}
	if select_, ok := map[string]int{"spi-0.0": 8, "spi-0.1": 7, "spi-1.0": 18, "spi-1.1": 17, "spi-1.2": 16}[name]; ok {
		all = append(all, HeaderLine{select_, "chip select of " + name})
	}
	return all
}

// Shared is the part of a bus name that stands for the wires: everything with the same one waits for
// each other. Channels of a multiplexer share their bus, chip selects of SPI theirs.
func Shared(name string) string {
	if !strings.HasPrefix(name, "/dev/") {
		name, _, _ = strings.Cut(name, "/")
	}
	if KindOf(name) == SPIKind {
		name, _, _ = strings.Cut(name, ".")
	}
	return name
}
