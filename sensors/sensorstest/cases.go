package sensorstest

import (
	"holdfast/sensors"
	"holdfast/sensors/simulated"
)

// Case is one way to configure a driver and what it has to measure then. A driver of a chip needs none
// if its model has the driver's name and inputs with the names of the quantities: it is then tested on
// each of its buses.
type Case struct {
	Name    string                // beside other cases of the driver
	Model   string                // of the chip; empty means the driver's name
	Kind    sensors.BusKind       // of the bus; empty means every one of the driver's
	Options map[string]any        // beside the defaults
	Lines   map[string]int        // of a chip on GPIO lines, in place of Options
	Inputs  map[string]string     // the model's input for a quantity, where the names differ
	Convert map[string]Conversion // from input to quantity, where they are not the same
	// Settle is how long the chip must have had power before its readings count, such as a warm-up.
	// While it lasts, an error of class temporary is right.
	Settle int // seconds

	// Fixtures are for drivers of the kernel, which have no model: files in /sys and what they mean.
	Fixtures []Fixture
	// Own is for drivers that nothing of this fits, which test themselves: why.
	Own string
}

// Conversion turns what is physically there into what the driver has to say, and how exactly.
type Conversion struct {
	Value     func(input float64) float64
	Tolerance float64 // 0 means the input's step
}

// Fixture is a state of the machine and what the driver makes of it.
type Fixture struct {
	Name    string
	Files   map[string]string // below /sys, without the lines' ends
	Lines   map[int]bool      // levels of GPIO lines
	Options map[string]any    // beside the case's
	Want    map[string]float64
	Error   sensors.Class // instead of Want
}

// cases is the table: what each driver needs beside its model. A driver that is neither here nor has a
// model of its name fails.
var cases = map[string][]Case{
	"ads1015": {
		{Name: "first", Inputs: map[string]string{"voltage": "voltage0"}},
		{Name: "slowest", Options: map[string]any{"channel": "3", "rate": int64(128)}, Inputs: map[string]string{"voltage": "voltage3"}},
	},
	"ads1115": {
		{Name: "first", Inputs: map[string]string{"voltage": "voltage0"}},
		{Name: "slowest", Options: map[string]any{"channel": "3", "rate": int64(8)}, Inputs: map[string]string{"voltage": "voltage3"}},
	},
	"cpu": {{Fixtures: []Fixture{
		{Name: "warm", Files: map[string]string{"class/thermal/thermal_zone0/temp": "51234"}, Want: map[string]float64{"temperature": 51.234}},
		{Name: "cold", Files: map[string]string{"class/thermal/thermal_zone0/temp": "-12500"}, Want: map[string]float64{"temperature": -12.5}},
		{Name: "garbage", Files: map[string]string{"class/thermal/thermal_zone0/temp": "?"}, Error: sensors.Temporary},
	}}},
	"ds18b20": {{Fixtures: []Fixture{
		{Name: "warm", Files: map[string]string{w1temp: "21437"}, Want: map[string]float64{"temperature": 21.437}},
		{Name: "cold", Files: map[string]string{w1temp: "-55000"}, Want: map[string]float64{"temperature": -55}},
		{Name: "hot", Files: map[string]string{w1temp: "125000"}, Want: map[string]float64{"temperature": 125}},
		{Name: "power on", Files: map[string]string{w1temp: "85000"}, Error: sensors.Temporary},
		{Name: "beyond", Files: map[string]string{w1temp: "127937"}, Error: sensors.Implausible},
		{Name: "empty", Files: map[string]string{w1temp: ""}, Error: sensors.Temporary},
	}}},
	"max31865": {
		{Name: "pt100"},
		{Name: "pt1000", Options: map[string]any{"rtd": "pt1000", "wires": int64(3), "mains": int64(60)}},
	},
	"mcp3008": {
		{Name: "first", Inputs: map[string]string{"voltage": "voltage0"}},
		{
			Name: "scaled", Options: map[string]any{"channel": "7", "quantity": "moisture", "unit": "%", "scale": -50.0, "offset": 140.0},
			Inputs:  map[string]string{"moisture": "voltage7"},
			Convert: map[string]Conversion{"moisture": {Value: func(v float64) float64 { return 140 - 50*v }, Tolerance: 0.17}},
		},
	},
	"pms5003": {
		{Name: "on"},
		{Name: "asleep between readings", Options: map[string]any{"sleep": true}},
	},
	"sds011": {
		{Name: "on"},
		{Name: "asleep between readings", Options: map[string]any{"sleep": true}},
	},
	"gpio-input": {{Options: map[string]any{"line": int64(17)}, Fixtures: []Fixture{
		{Name: "low", Lines: map[int]bool{17: false}, Want: map[string]float64{"state": 0}},
		{Name: "high", Lines: map[int]bool{17: true}, Want: map[string]float64{"state": 1}},
		{Name: "active low", Lines: map[int]bool{17: false}, Options: map[string]any{"active_low": true}, Want: map[string]float64{"state": 1}},
	}}},
	"mcp23017": {
		{Name: "first", Options: map[string]any{"pin": int64(0)}, Inputs: map[string]string{"state": "pin0"}, Convert: threshold},
		{Name: "port B with pull-up", Options: map[string]any{"pin": int64(12), "pull_up": true}, Inputs: map[string]string{"state": "pin12"}, Convert: threshold},
	},
	"pcf8574": {{Options: map[string]any{"pin": int64(7)}, Inputs: map[string]string{"state": "pin7"}, Convert: threshold}},
	"tca9555": {{Options: map[string]any{"pin": int64(9)}, Inputs: map[string]string{"state": "pin9"}, Convert: threshold}},
}

// threshold is what a logic input makes of a level between 0 and 1.
var threshold = map[string]Conversion{"state": {Value: func(level float64) float64 {
	if level >= 0.5 {
		return 1
	}
	return 0
}}}

const w1temp = "bus/w1/devices/28-0316a2795bff/temperature"

// casesOf returns the cases of a driver, one for each bus, or none.
func casesOf(d sensors.Driver) []Case {
	list := cases[d.Name]
	if list == nil && simulated.FindModel(d.Name) != nil {
		list = []Case{{}}
	}
	var all []Case
	for _, c := range list {
		if c.Own != "" || c.Fixtures != nil || c.Kind != "" {
			all = append(all, c)
			continue
		}
		for _, k := range d.Buses {
			c.Kind = k
			all = append(all, c)
		}
	}
	return all
}
