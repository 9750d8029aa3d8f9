package simulated

// Models returns the table of all chips, by name.
func Models() []*Model {
	return []*Model{
		ads1115Model(),
		bme280Model(),
		sgp40Model(),
		sht3xModel(),
		sht4xModel(),
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
