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
		bmp180(),
		bmp280(),
		cpu(),
		ds18b20(),
		gpioInput(),
		mcp9808(),
		sgp40(),
		sht3x(),
		sht4x(),
		tmp102(),
	}
}
