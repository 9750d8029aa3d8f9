package sensors

// Drivers returns the table of all drivers, by name. The configuration is checked against it.
func Drivers() []Driver {
	return []Driver{
		ads1115(),
		bme280(),
		cpu(),
		ds18b20(),
		gpioInput(),
		sgp40(),
		sht3x(),
		sht4x(),
	}
}
