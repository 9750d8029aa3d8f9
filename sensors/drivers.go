package sensors

// Drivers returns the table of all drivers, by name. The configuration is checked against it.
func Drivers() []Driver {
	return []Driver{
		ads1015(),
		ads1115(),
		aht20(),
		am2320(),
		bh1750(),
		bme280(),
		bme680(),
		bmp180(),
		bmp280(),
		cpu(),
		ds18b20(),
		gpioInput(),
		ina226(),
		ina3221(),
		lis3dh(),
		max31865(),
		mcp3008(),
		mcp9808(),
		sgp40(),
		sht3x(),
		sht4x(),
		tmp102(),
		tsl2591(),
		veml7700(),
	}
}
