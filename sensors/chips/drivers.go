// Package chips has a driver for each chip and each interface of the kernel, a file for each, and the one
// table of them.
//
// It promises what sensorstest checks of every row: a reading is made only of bytes that the hardware has
// answered for it, with their checksums compared; no transfer begins after a call's deadline; errors have
// a class of package sensors or bus.
//
// It does not schedule, convert or filter readings: package sensors does, and is given the table.
package chips

import (
	"holdfast/sensors"
)

// Drivers returns the table of all drivers, by name. The configuration is checked against it.
func Drivers() []sensors.Driver {
	return []sensors.Driver{
		ads1015(),
		ads1115(),
		adxl345(),
		aht20(),
		am2320(),
		as7262(),
		bh1750(),
		bme280(),
		bme680(),
		bmp180(),
		bmp280(),
		ccs811(),
		counter(),
		cpu(),
		ds18b20(),
		ds2482(),
		execCommand(),
		textFile(),
		gpioInput(),
		hdc302x(),
		hwmon(),
		hx711(),
		iio(),
		ina219(),
		ina226(),
		ina3221(),
		lis3dh(),
		max31865(),
		mcp23017(),
		mcp3008(),
		mcp9808(),
		mpu9250(),
		mqttTopic(),
		pcf8574(),
		pms5003(),
		scd4x(),
		sds011(),
		sgp30(),
		sgp40(),
		sht3x(),
		sht4x(),
		system(),
		tca9555(),
		thermal(),
		tlv493d(),
		tmp102(),
		tsl2591(),
		veml7700(),
		vl53l0x(),
		w1(),
	}
}
