package sensorstest

import (
	"fmt"
	"path"

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
	"bme680": {{}, {Name: "BME688", Model: "bme688"}, {Name: "BME690", Model: "bme690"}},
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
		{Name: "ice", Files: map[string]string{w1temp: "0", w1slave: "00 00 4b 46 7f ff 0c 10 c8 : crc=c8 YES\n00 00 4b 46 7f ff 0c 10 c8 t=0"}, Want: map[string]float64{"temperature": 0}},
		{Name: "ice, a second look", Files: map[string]string{w1temp: "0", w1slave: "ff ff 4b 46 7f ff 0c 10 13 : crc=13 YES\nff ff 4b 46 7f ff 0c 10 13 t=-62"}, Want: map[string]float64{"temperature": -0.062}},
		{Name: "a line that is shorted", Files: map[string]string{w1temp: "0", w1slave: "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0"}, Error: sensors.Absent},
		{Name: "a wrong checksum at zero", Files: map[string]string{w1temp: "0", w1slave: "00 00 4b 46 7f ff 0c 10 c9 : crc=c8 NO\n00 00 4b 46 7f ff 0c 10 c9 t=0"}, Error: sensors.Temporary},
		{Name: "no bytes at zero", Files: map[string]string{w1temp: "0", w1slave: ""}, Error: sensors.Temporary},
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
	"mpu9250": {{}, {Name: "MPU-6050", Model: "mpu6050", Kind: sensors.BusI2C}},
	"bh1750": {
		{Name: "usual"},
		{Name: "for the sun", Options: map[string]any{"measurement_time": int64(31)}, Convert: map[string]Conversion{"illuminance": {Value: func(v float64) float64 { return v }, Tolerance: 0.95}}},
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
		{Name: "edges", Lines: map[int]bool{17: true}, Options: map[string]any{"edges": true}, Want: map[string]float64{"state": 1, "activations": 0}},
	}}},
	"counter": {{Options: map[string]any{"line": int64(17)}, Fixtures: []Fixture{
		{Name: "still", Lines: map[int]bool{17: true}, Options: map[string]any{"start": 12.5}, Want: map[string]float64{"count": 0, "total": 12.5, "rate": 0, "lost": 0}},
	}}},
	"exec": {{Own: "it runs commands of this machine: TestExec"}},
	"file": {{Own: "it reads files of this machine: TestFile"}},
	"mqtt": {{Own: "it needs a broker: TestMQTT"}},
	// What each driver writes is from the kernel's sources; where it is against the ABI, the fixture's name says since when
	// or until when.
	"iio": {{Options: map[string]any{"device": "bme680"}, Fixtures: []Fixture{
		{Name: "bme680: humidity in percent, all kernels", Files: iioFiles(3, "bme680", map[string]string{
			"in_temp_input": "21370", "in_humidityrelative_input": "48.250000000", "in_pressure_input": "101.325000000", "in_resistance_input": "104321"}),
			Want: map[string]float64{"temperature": 21.37, "humidity": 48.25, "pressure": 1013.25, "resistance": 104321}},
		{Name: "bme680: driest and wettest", Files: iioFiles(3, "bme680", map[string]string{"in_humidityrelative_input": "100.000000000"}),
			Want: map[string]float64{"humidity": 100}},
		{Name: "bme680: pressure in hPa, before 6.10", Files: iioFiles(0, "bme680", map[string]string{"in_pressure_input": "1013.250000000", "in_temp_input": "-1250"}),
			Want: map[string]float64{"pressure": 1013.25, "temperature": -1.25}},
		{Name: "bme680: a pressure that is neither", Files: iioFiles(0, "bme680", map[string]string{"in_pressure_input": "13"}), Error: sensors.Implausible},
		{Name: "bme680: raw, since 6.13", Files: iioFiles(0, "bme680", map[string]string{
			"in_temp_raw": "2137", "in_temp_scale": "10", "in_humidityrelative_raw": "48250", "in_humidityrelative_scale": "0.001000000",
			"in_pressure_raw": "101325", "in_pressure_scale": "0.001000000"}),
			Want: map[string]float64{"temperature": 21.37, "humidity": 48.25, "pressure": 1013.25}},
		{Name: "hts221: percent and degrees, all kernels", Options: map[string]any{"device": "hts221"}, Files: iioFiles(1, "hts221", map[string]string{
			"in_humidityrelative_raw": "-3000", "in_humidityrelative_offset": "-7885.611940298", "in_humidityrelative_scale": "-0.004187500",
			"in_temp_raw": "-900", "in_temp_offset": "754.047440699", "in_temp_scale": "0.025031250"}),
			Want: map[string]float64{"humidity": 45.583499999997875, "temperature": -3.653375000003144}},
		{Name: "mpl3115: degrees, all kernels", Options: map[string]any{"device": "mpl3115"}, Files: iioFiles(1, "mpl3115", map[string]string{
			"in_temp_raw": "-20", "in_temp_scale": "0.062500", "in_pressure_raw": "405300", "in_pressure_scale": "0.000250"}),
			Want: map[string]float64{"temperature": -1.25, "pressure": 1013.25}},
		{Name: "mpu6050: degrees, before 5.5", Options: map[string]any{"device": "mpu6050"}, Files: iioFiles(1, "mpu6050", map[string]string{
			"in_temp_raw": "-4421", "in_temp_offset": "12421", "in_temp_scale": "0.002941"}), Want: map[string]float64{"temperature": 23.528}},
		{Name: "mpu6050: as the ABI says, from 5.5 on", Options: map[string]any{"device": "mpu6050"}, Files: iioFiles(1, "mpu6050", map[string]string{
			"in_temp_raw": "-4420", "in_temp_offset": "12420", "in_temp_scale": "2.941176"}), Want: map[string]float64{"temperature": 23.529408}},
		{Name: "hdc1080: percent, before 5.5", Options: map[string]any{"device": "hdc1080"}, Files: iioFiles(1, "hdc1080", map[string]string{
			"in_humidityrelative_raw": "32768", "in_humidityrelative_scale": "0.001525878"}), Want: map[string]float64{"humidity": 49.999970304}},
		{Name: "hdc1080: as the ABI says, from 5.5 on", Options: map[string]any{"device": "hdc1080"}, Files: iioFiles(1, "hdc1080", map[string]string{
			"in_humidityrelative_raw": "32768", "in_humidityrelative_scale": "1.525878906"}), Want: map[string]float64{"humidity": 49.999999991808}},
		{Name: "itg3200: degrees, all kernels", Options: map[string]any{"device": "itg3200"}, Files: iioFiles(1, "itg3200", map[string]string{
			"in_temp_raw": "-16000", "in_temp_offset": "23000", "in_temp_scale": "0.003571428"}), Want: map[string]float64{"temperature": 24.999996}},
		{Name: "by the ABI", Options: map[string]any{"device": "htu21"}, Files: iioFiles(0, "htu21", map[string]string{"in_temp_input": "-21370", "in_humidityrelative_input": "48250"}),
			Want: map[string]float64{"temperature": -21.37, "humidity": 48.25}},
		{Name: "humidity 1,000 times too large", Options: map[string]any{"device": "unheardof"}, Files: iioFiles(0, "unheardof", map[string]string{"in_humidityrelative_input": "48250000"}), Error: sensors.Implausible},
		{Name: "temperature below the absolute zero", Options: map[string]any{"device": "unheardof"}, Files: iioFiles(0, "unheardof", map[string]string{"in_temp_input": "-300000"}), Error: sensors.Implausible},
		{Name: "raw", Options: map[string]any{"device": "unheardof"}, Files: iioFiles(0, "unheardof", map[string]string{"in_temp_raw": "-1200", "in_temp_offset": "200", "in_temp_scale": "2.5"}),
			Want: map[string]float64{"temperature": -2.5}},
		{Name: "chosen", Options: map[string]any{"channels": []string{"pressure"}},
			Files: iioFiles(0, "bme680", map[string]string{"in_temp_input": "21370", "in_pressure_input": "30.0"}), Want: map[string]float64{"pressure": 300}},
		{Name: "garbage", Files: iioFiles(0, "bme680", map[string]string{"in_temp_input": ""}), Error: sensors.Temporary},
		{Name: "no channels", Files: iioFiles(0, "bme680", map[string]string{"uevent": "x"}), Error: sensors.Permanent},
		{Name: "another", Files: iioFiles(0, "mcp3008", map[string]string{"in_voltage0_raw": "1"}), Error: sensors.Absent},
	}}},
	"hwmon": {{Options: map[string]any{"device": "ina219"}, Fixtures: []Fixture{
		{Name: "power", Files: hwmonFiles(7, "ina219", map[string]string{"in0_input": "2", "in0_label": "Shunt", "in1_input": "12048", "curr1_input": "-1500", "power1_input": "18072000"}),
			Want: map[string]float64{"voltage_shunt": 0.002, "voltage1": 12.048, "current": -1.5, "power": 18.072}},
		{Name: "garbage", Files: hwmonFiles(7, "ina219", map[string]string{"in1_input": "many"}), Error: sensors.Temporary},
		{Name: "no fault", Options: map[string]any{"device": "emc1403"}, Files: hwmonFiles(7, "emc1403", map[string]string{"temp1_input": "-21000", "temp1_fault": "0", "fan1_input": "0", "fan1_fault": "0"}),
			Want: map[string]float64{"temperature": -21, "fan": 0}},
		{Name: "a diode that is open", Options: map[string]any{"device": "emc1403"}, Files: hwmonFiles(7, "emc1403", map[string]string{"temp1_input": "21000", "temp2_input": "127875", "temp2_fault": "1"}), Error: sensors.Temporary},
		{Name: "the other one", Options: map[string]any{"device": "emc1403", "channels": []string{"temp1"}}, Files: hwmonFiles(7, "emc1403", map[string]string{"temp1_input": "21000", "temp2_input": "127875", "temp2_fault": "1"}),
			Want: map[string]float64{"temperature1": 21}},
		{Name: "a fan that stands", Options: map[string]any{"device": "emc2301"}, Files: hwmonFiles(7, "emc2301", map[string]string{"fan1_input": "0", "fan1_fault": "1"}), Error: sensors.Temporary},
		{Name: "a fault that is neither", Options: map[string]any{"device": "emc2301"}, Files: hwmonFiles(7, "emc2301", map[string]string{"fan1_input": "900", "fan1_fault": ""}), Error: sensors.Temporary},
		{Name: "hotter than anything", Options: map[string]any{"device": "emc1403"}, Files: hwmonFiles(7, "emc1403", map[string]string{"temp1_input": "21000000"}), Error: sensors.Implausible},
		{Name: "a fan faster than anything", Options: map[string]any{"device": "emc2301"}, Files: hwmonFiles(7, "emc2301", map[string]string{"fan1_input": "12000000"}), Error: sensors.Implausible},
	}}},
	"thermal": {{Fixtures: []Fixture{
		{Name: "two zones", Files: map[string]string{"class/thermal/thermal_zone1/type": "Rp1 adc", "class/thermal/thermal_zone1/temp": "-1000"},
			Options: map[string]any{"zones": []string{"Rp1 adc"}}, Want: map[string]float64{"temperature_rp1_adc": -1}},
		{Name: "no such zone", Options: map[string]any{"zones": []string{"gpu"}}, Error: sensors.Absent},
	}}},
	"w1": {{Options: map[string]any{"names": map[string]string{"28-0316a2795bff": "inlet"}, "ids": []string{"28-0316a2795bff", "10-000802b4ac0f"}}, Fixtures: []Fixture{
		{Name: "two", Files: map[string]string{w1temp: "21437", w1other: "-500"}, Want: map[string]float64{"inlet": 21.437, "temperature_10-000802b4ac0f": -0.5}},
		{Name: "power on", Files: map[string]string{w1temp: "21437", w1other: "85000"}, Error: sensors.Temporary},
		{Name: "one is missing", Files: map[string]string{w1temp: "21437"}, Error: sensors.Absent},
		{Name: "a line that is shorted", Files: map[string]string{w1temp: "21437", w1other: "0", path.Dir(w1other) + "/w1_slave": "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0"}, Error: sensors.Absent},
	}}},
	"system": {{Fixtures: []Fixture{
		{Name: "a Pi", Files: systemFiles(map[string]string{"devices/platform/soc/soc:firmware/get_throttled": "50005",
			"class/mmc_host/mmc0/mmc0:0001/life_time": "0x01 0x03", "class/mmc_host/mmc0/mmc0:0001/pre_eol_info": "0x01"}),
			Want: map[string]float64{"load": 0.42, "load_15min": 0.31, "uptime": 86400.5, "memory_available": 75, "swap_used": 25, "disk_free": 40,
				"undervoltage": 1, "throttled": 1, "frequency_capped": 0, "undervoltage_since_start": 1, "throttled_since_start": 1, "temperature_limited": 0, "sd_wear": 30, "sd_end_of_life": 1}},
		{Name: "older firmware", Files: systemFiles(map[string]string{"class/hwmon/hwmon2/name": "rpi_volt", "class/hwmon/hwmon2/in0_lcrit_alarm": "1"}),
			Options: map[string]any{"channels": []string{"undervoltage", "load"}}, Want: map[string]float64{"undervoltage": 1, "load": 0.42}},
		{Name: "not shown", Files: systemFiles(nil), Options: map[string]any{"channels": []string{"sd_wear"}}, Error: sensors.Absent},
		{Name: "garbage", Files: systemFiles(map[string]string{"proc/meminfo": "?"}), Error: sensors.Temporary},
	}}},
	"hx711": {{Kind: sensors.BusGPIO, Lines: map[string]int{"clock": 5, "data": 6}}},
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

// iioFiles and hwmonFiles are a device of the kernel under some number.
func iioFiles(n int, name string, files map[string]string) map[string]string {
	return deviceFiles(fmt.Sprintf("bus/iio/devices/iio:device%d/", n), name, files)
}

func hwmonFiles(n int, name string, files map[string]string) map[string]string {
	return deviceFiles(fmt.Sprintf("class/hwmon/hwmon%d/", n), name, files)
}

func deviceFiles(dir, name string, files map[string]string) map[string]string {
	all := map[string]string{dir + "name": name}
	for file, text := range files {
		all[dir+file] = text
	}
	return all
}

// systemFiles are /proc and the disk, and more.
func systemFiles(more map[string]string) map[string]string {
	all := map[string]string{
		"proc/loadavg": "0.42 0.35 0.31 1/123 4567", "proc/uptime": "86400.50 300000.00",
		"proc/meminfo": "MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: 750 kB\nSwapTotal: 400 kB\nSwapFree: 300 kB",
		"disk":         "1000 400",
	}
	for file, text := range more {
		all[file] = text
	}
	return all
}

const w1other = "bus/w1/devices/10-000802b4ac0f/temperature"

const w1temp = "bus/w1/devices/28-0316a2795bff/temperature"

const w1slave = "bus/w1/devices/28-0316a2795bff/w1_slave"

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
