package chips

import (
	"io/fs"
	"path"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// named finds what the kernel names in files, for drivers with an option that names the one to read.
func named(glob, option string) func(fs.FS) ([]sensors.Candidate, error) {
	return func(sys fs.FS) ([]sensors.Candidate, error) {
		files, err := fs.Glob(sys, glob)
		var found []sensors.Candidate
		for _, file := range files {
			name, failed := bus.ReadFile(sys, file)
			if failed != nil {
				err = failed
				continue
			}
			found = append(found, sensors.Candidate{Chip: name, Options: map[string]any{option: name}})
		}
		return found, err
	}
}

func findDS18B20(sys fs.FS) ([]sensors.Candidate, error) {
	devices, err := fs.Glob(sys, "bus/w1/devices/28-*")
	var found []sensors.Candidate
	for _, d := range devices {
		found = append(found, sensors.Candidate{Chip: "DS18B20", Options: map[string]any{"id": path.Base(d)}})
	}
	return found, err
}
