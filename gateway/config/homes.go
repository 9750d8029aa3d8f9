package config

import (
	"fmt"
	"slices"
	"strings"

	"holdfast/sensors"
)

// home is what reads or moves something for which there is no driver of that name.
type home struct {
	names   string // what people call it, in lower case
	section string // sensors or outputs
	driver  string
	overlay string // of a kernel driver: what goes behind dtoverlay=
}

// homes are those that the drivers' own rows do not name. Overlays and their parameters are those of
// arch/arm/boot/dts/overlays/README in Raspberry Pi's kernel (rpi-6.12.y).
var homes = []home{
	{"dht11 dht22 am2301 am2302 rht03", "sensors", "iio", "dht11,gpiopin=4"},
	{"bmp380 bmp384 bmp388 bmp390 bmp3xx", "sensors", "iio", "i2c-sensor,bmp380"},
	{"htu21 htu21d", "sensors", "iio", "i2c-sensor,htu21"},
	{"si7013 si7020 si7021", "sensors", "iio", "i2c-sensor,si7020"},
	{"hdc1000 hdc1008 hdc1010 hdc1050 hdc1080", "sensors", "iio", "i2c-sensor,hdc100x"},
	{"hts221", "sensors", "iio", "i2c-sensor,hts221"},
	{"shtc3", "sensors", "hwmon", "i2c-sensor,shtc3"},
	{"aht10", "sensors", "hwmon", "i2c-sensor,aht10"},
	{"lm75 lm75a lm75b", "sensors", "hwmon", "i2c-sensor,lm75"},
	{"ds1621 ds1631", "sensors", "hwmon", "i2c-sensor,ds1621"},
	{"adt7410 adt7420", "sensors", "hwmon", "i2c-sensor,adt7410"},
	{"ads7828", "sensors", "hwmon", "i2c-sensor,ads7828"},
	{"ads7830", "sensors", "hwmon", "i2c-sensor,ads7830"},
	{"ina238", "sensors", "hwmon", "i2c-sensor,ina238"},
	{"ms5637", "sensors", "iio", "i2c-sensor,ms5637"},
	{"ms5803", "sensors", "iio", "i2c-sensor,ms5803"},
	{"ms5805", "sensors", "iio", "i2c-sensor,ms5805"},
	{"ms5837", "sensors", "iio", "i2c-sensor,ms5837"},
	{"ms8607", "sensors", "iio", "i2c-sensor,ms8607"},
	{"bno055", "sensors", "iio", "i2c-sensor,bno055"},
	{"max30102", "sensors", "iio", "i2c-sensor,max30102"},
	{"mpu6050", "sensors", "iio", "i2c-sensor,mpu6050"},
	{"sps30", "sensors", "iio", "i2c-sensor,sps30"},
	{"tcs3472 tcs34725", "sensors", "iio", "i2c-sensor,tcs3472"},
	{"tsl4531", "sensors", "iio", "i2c-sensor,tsl4531"},
	{"veml6040", "sensors", "iio", "i2c-sensor,veml6040"},
	{"veml6070", "sensors", "iio", "i2c-sensor,veml6070"},
	{"veml6075", "sensors", "iio", "i2c-sensor,veml6075"},
	{"max6675", "sensors", "iio", "maxtherm,spi0-0,max6675"},
	{"max31855", "sensors", "iio", "maxtherm,spi0-0,max31855"},

	{"gpio button switch contact reed door pir motion digital-input", "sensors", "gpio-input", ""},
	{"pulse pulses flow flow-meter rain rain-gauge s0 water-meter gas-meter", "sensors", "counter", ""},
	{"1-wire 1wire onewire w1-therm", "sensors", "w1", ""},
	{"command script shell bash python http rest", "sensors", "exec", ""},
	{"zigbee zigbee2mqtt tasmota shelly esphome esp32 esp8266", "sensors", "mqtt", ""},
	{"cpu-temp cpu_temp cputemp", "sensors", "cpu", ""},
	{"pi rpi raspberry-pi", "sensors", "system", ""},
	{"gpio relay led lamp light switch valve pump buzzer solenoid digital-output", "outputs", "gpio-output", ""},
	{"dimmer fan", "outputs", "pwm", ""},
	{"display oled screen lcd", "outputs", "ssd1306", ""},
}

// otherDriver returns which driver is meant by a name that a section has none of.
func (l *loader) otherDriver(name, section string, known []string) string {
	low := strings.ToLower(name)
	here, there, other := l.opts.sensorSpecs(), l.opts.outputSpecs(), "outputs"
	if section == "outputs" {
		here, there, other = there, here, "sensors"
	}
	if s := reads(here, low, false); s != nil {
		return fmt.Sprintf(": use %s, which is for %s", s.Name, s.Chip)
	}
	for _, h := range homes {
		if h.section != section || !slices.Contains(strings.Fields(h.names), low) || !slices.Contains(known, h.driver) {
			continue
		}
		if h.overlay == "" {
			return ": use " + h.driver
		}
		names := "/sys/bus/iio/devices/*/name"
		if h.driver == "hwmon" {
			names = "/sys/class/hwmon/*/name"
		}
		return fmt.Sprintf(": a driver of the kernel reads it: add dtoverlay=%s to /boot/firmware/config.txt, start anew, and use driver %s with the device that %s shows then",
			h.overlay, h.driver, names)
	}
	if s := reads(here, low, true); s != nil {
		return fmt.Sprintf(": a driver of the kernel reads it: use %s (`holdfast sensors %s` shows how)", s.Name, s.Name)
	}
	if slices.ContainsFunc(there, func(s *sensors.Spec) bool { return s.Name == low }) {
		return fmt.Sprintf(": it is a driver of %s: put the entry there", other)
	}
	return ", " + nearest(name, known)
}

// reads returns the driver whose row names a chip, of our own ones or of those that the kernel's drivers are read by.
func reads(specs []*sensors.Spec, chip string, kernel bool) *sensors.Spec {
	plain := func(text string) string { return strings.ReplaceAll(strings.ToLower(text), "-", "") }
	for _, s := range specs {
		words := strings.FieldsFunc(plain(s.Chip), func(r rune) bool { return strings.ContainsRune(" ,()/", r) })
		if (s.Name == "iio" || s.Name == "hwmon") == kernel && slices.Contains(words, plain(chip)) && strings.ContainsAny(chip, "0123456789") {
			return s
		}
	}
	return nil
}

func (o *Options) sensorSpecs() (all []*sensors.Spec) {
	for i := range o.Drivers {
		all = append(all, &o.Drivers[i].Spec)
	}
	return all
}

func (o *Options) outputSpecs() (all []*sensors.Spec) {
	for i := range o.Outputs {
		all = append(all, &o.Outputs[i].Spec)
	}
	return all
}

// elsewhere returns the place of a key that t does not have, if a wrong indentation may have put it there.
func (l *loader) elsewhere(name string, t *table) string {
	var places []string
	for _, k := range l.root.keys {
		if k.name == name && t != l.root {
			return ": it is a key of the whole file: indent it less"
		}
		if of := k.table; of != nil && t == l.root && slices.Contains(of.names(), name) {
			places = append(places, k.name)
		}
	}
	if len(places) == 0 {
		return ""
	}
	return fmt.Sprintf(": it is a key of %s: indent it more", oneOf(places))
}
