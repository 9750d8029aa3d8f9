package chips

import (
	"math"
	"path"
)

// deviation is a channel that a driver of the kernel reports in another unit than the ABI says
// (Documentation/ABI/testing/sysfs-bus-iio: thousandths of a degree and of a percent, kPa).
//
// A fix goes into stable kernels, too, so the kernel's version number does not tell whether a kernel has it. What
// tells is the scale of a raw channel, or the size of a processed value: both units never give the same.
type deviation struct {
	device string // pattern of the device's name, as path.Match has it
	kind   string // of the channel
	// raw and input report whether the channel deviates, by its scale and by its value, as the kernel has them. Nil means
	// that this form does not.
	raw, input func(v float64) bool
	factor     float64 // from what the kernel has to what the ABI says
	source     string  // the driver, and which kernels
}

// deviations is the table, from the kernel's sources. A row stays when a kernel mends it: older ones go on running.
var deviations = []deviation{
	{"bme680", "humidityrelative", below(0.1), upTo(100), 1000, "drivers/iio/chemical/bme680_core.c: thousandths of a percent, divided by 1000; all kernels up to 6.15 at least"},
	{"bme680", "pressure", nil, above(200), 0.1, "drivers/iio/chemical/bme680_core.c: Pa, divided by 100; before 6.10 and its stable backports"},
	{"hts221", "humidityrelative", below(0.1), nil, 1000, "drivers/iio/humidity/hts221.c: slope / 16000 is percent for a count; all kernels"},
	{"hts221", "temp", below(0.5), nil, 1000, "drivers/iio/humidity/hts221.c: slope / 64000 is degrees for a count; all kernels"},
	{"mpl3115", "temp", below(1), nil, 1000, "drivers/iio/pressure/mpl3115.c: 0.0625 degrees for a count; all kernels"},
	{"itg3200", "temp", below(0.1), nil, 1000, "drivers/iio/gyro/itg3200_core.c: 1/280 degree for a count; all kernels"},
	{"mpu[69]*", "temp", below(0.1), nil, 1000, "drivers/iio/imu/inv_mpu6050: 0.002941 degrees for a count; before 5.5 and its stable backports"},
	{"icm20[0-9][0-9][0-9]*", "temp", below(0.1), nil, 1000, "as mpu6050: 0.003059 degrees for a count"},
	{"hdc10*", "humidityrelative", below(0.1), nil, 1000, "drivers/iio/humidity/hdc100x.c: 100 / 65536 percent for a count; before 5.5 and its stable backports"},
}

func below(limit float64) func(float64) bool {
	return func(v float64) bool { return math.Abs(v) < limit }
}
func upTo(limit float64) func(float64) bool {
	return func(v float64) bool { return math.Abs(v) <= limit }
}
func above(limit float64) func(float64) bool {
	return func(v float64) bool { return math.Abs(v) > limit }
}

// noDeviation is what every other channel has.
var noDeviation = deviation{factor: 1}

// deviationOf returns the row for a channel.
func deviationOf(device, kind string) deviation {
	for _, d := range deviations {
		if ok, err := path.Match(d.device, device); d.kind == kind && ok && err == nil {
			return d
		}
	}
	return noDeviation
}

// correct returns the factor for what reports reports, raw or input.
func (d deviation) correct(reports func(float64) bool, v float64) float64 {
	if reports != nil && reports(v) {
		return d.factor
	}
	return 1
}

// chipRanges are narrower than the range of the kind of channel, where all that a device's driver reads measures in
// them: a driver that takes another unit is then a failing sensor and no wrong reading. In our units.
var chipRanges = []struct {
	device, kind string
	low, high    float64
}{
	{"bm[ep][0-9]*", "pressure", 200, 1300}, // Bosch barometers: 300 to 1100 or 1250 hPa
	{"bm[ep][0-9]*", "temp", -60, 150},
	{"hts221", "temp", -60, 150},
	{"mpl3115", "pressure", 100, 1300},
	{"mpl3115", "temp", -60, 150},
	{"ms5611", "pressure", 5, 1300},
	{"lps[23]*", "pressure", 200, 1300},
	{"dps310", "pressure", 200, 1300},
	{"dht11", "temp", -60, 100},
}

// plausible returns the range of a channel: of the device's driver, or of its kind.
func plausible(device, kind string, low, high float64) (float64, float64) {
	for _, r := range chipRanges {
		if ok, err := path.Match(r.device, device); r.kind == kind && ok && err == nil {
			return r.low, r.high
		}
	}
	return low, high
}
