package simulated

// Models returns the table of all chips, by name.
func Models() []*Model {
	return []*Model{
		ads1015Model(),
		ads1115Model(),
		adxl345Model(),
		aht20Model(),
		am2320Model(),
		as7262Model(),
		bh1750Model(),
		bme280Model(),
		bme680Model(),
		bme688Model(),
		bme690Model(),
		bmp180Model(),
		bmp280Model(),
		ccs811Model(),
		ds2482Model(),
		ds2482PairModel(),
		hdc302xModel(),
		hx711Model(),
		ina219Model(),
		ina226Model(),
		ina3221Model(),
		lis3dhModel(),
		max31865Model(),
		mcp23017Model(),
		mcp3008Model(),
		mcp9808Model(),
		mpu6050Model(),
		mpu9250Model(),
		pca9548Model(),
		pca9685Model(),
		pcf8574Model(),
		pms5003Model(),
		scd4xModel(),
		sds011Model(),
		sgp30Model(),
		sgp40Model(),
		sht3xModel(),
		sht4xModel(),
		ssd1306Model(),
		tca9555Model(),
		tlv493dModel(),
		tmp102Model(),
		tsl2591Model(),
		veml7700Model(),
		vl53l0xModel(),
	}
}

// FindModel returns the model of a name, or nil.
func FindModel(name string) *Model {
	for _, m := range Models() {
		if m.Name == name {
			return m
		}
	}
	return nil
}
