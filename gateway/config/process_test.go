package config

import (
	"math"
	"reflect"
	"testing"
	"time"

	"holdfast/sensors"
)

func TestProcessing(t *testing.T) {
	c, err := load(t, `
sensors:
  - name: air
    driver: bme280
    bus: spi-0.1
    filter: {median: 5}
    report: {on_change: 0.2, at_least_every: 10m}
    quantities:
      temperature:
        as: indoor
        calibrate: {offset: -0.4}
        limits: {max: 60}
        round: 0.1
      humidity:
        limits: {min: 5}
        filter: {exponential: 8}
  - name: soil
    driver: ads1115
    bus: i2c-1
    channel: A0
    calibrate:
      points: [[1.1, 100], [2.8, 0]]
    quantities:
      voltage: {as: moisture, unit: "%"}
  - name: any
    driver: iio
    channels: [temp, light]
    units: {light: lx}
    round: 0.5
    quantities:
      light:
        calibrate: {formula: "x * 10"}
`, `
sensors:
  - name: air
    report: {on_change: 0.5}
    quantities:
      temperature: {calibrate: {scale: 2}}
`)
	if err != nil {
		t.Fatal(err)
	}
	median := sensors.Filter{Kind: sensors.FilterMedian, N: 5}
	report := sensors.Report{On: true, OnChange: 0.5, AtLeastEvery: 10 * time.Minute}
	air := c.Sensors[0]
	want := sensors.Processing{
		As: "indoor", Calibrate: sensors.Calibration{Scale: 2, Offset: -0.4},
		Limits: &sensors.Limits{Min: math.Inf(-1), Max: 60}, Filter: median, Round: 0.1, Report: report,
	}
	if got := air.Quantities["temperature"]; !reflect.DeepEqual(got, want) {
		t.Errorf("temperature: got %+v, want %+v", got, want)
	}
	want = sensors.Processing{
		Limits: &sensors.Limits{Min: 5, Max: 100}, Filter: sensors.Filter{Kind: sensors.FilterExponential, N: 8}, Report: report,
	}
	if got := air.Quantities["humidity"]; !reflect.DeepEqual(got, want) {
		t.Errorf("humidity: got %+v, want %+v", got, want)
	}
	want = sensors.Processing{
		As: "moisture", Unit: "%", Calibrate: sensors.Calibration{Scale: 1, Points: [][2]float64{{1.1, 100}, {2.8, 0}}},
	}
	if got := c.Sensors[1].Quantities["voltage"]; !reflect.DeepEqual(got, want) {
		t.Errorf("voltage: got %+v, want %+v", got, want)
	}
	other := c.Sensors[2]
	if other.Processing.Round != 0.5 || other.Quantities["light"].Round != 0.5 || other.Quantities["light"].Calibrate.Formula.String() != "x * 10" {
		t.Errorf("light: got %+v", other)
	}
	if want := map[string]any{"channels": []string{"temp", "light"}, "units": map[string]string{"light": "lx"}}; !reflect.DeepEqual(other.Options, want) {
		t.Errorf("options: got %v, want %v", other.Options, want)
	}
}
