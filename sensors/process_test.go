package sensors_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
)

// process reads values from a driver, one a second (NaN: a failure), and returns what is reported, as text:
// second after the first, value.
func process(t *testing.T, how sensors.Processing, values ...float64) (told []string, w *watch) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d, _ := script("d", time.Second, func(_ context.Context, n int) ([]sensors.Measurement, error) {
			if n > len(values) {
				return nil, fmt.Errorf("%w: the end", bus.ErrAbsent)
			}
			if math.IsNaN(values[n-1]) {
				return nil, fmt.Errorf("%w: noise", bus.ErrTemporary)
			}
			return volt(values[n-1]), nil
		})
		d.Quantities[0].Min, d.Quantities[0].Max = -1000, 1000
		c := config("s", "d", "", time.Second)
		c.Quantities = map[string]sensors.Processing{"v": how}
		w = supervise(t, nil, []sensors.Driver{d}, c)
		time.Sleep(time.Duration(len(values))*time.Second + 20*time.Minute)
		w.stop()
		for _, r := range w.readings["s"] {
			told = append(told, fmt.Sprintf("%g", math.Round(r.Value*1000)/1000))
		}
	})
	return told, w
}

func formula(t *testing.T, text string) *sensors.Formula {
	t.Helper()
	f, err := sensors.NewFormula(text, []sensors.Quantity{{Name: "v", Unit: "V"}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestProcessing(t *testing.T) {
	nan := math.NaN()
	points := [][2]float64{{0, 10}, {1, 20}, {3, 0}}
	for name, tt := range map[string]struct {
		how    sensors.Processing
		values []float64
		want   string
	}{
		"nothing":              {sensors.Processing{}, []float64{1, 1, -2.5}, "1 1 -2.5"},
		"scale and offset":     {sensors.Processing{Calibrate: sensors.Calibration{Scale: 2, Offset: -1}}, []float64{1, -1}, "1 -3"},
		"offset":               {sensors.Processing{Calibrate: sensors.Calibration{Offset: 0.5}}, []float64{0, 1}, "0.5 1.5"},
		"points":               {sensors.Processing{Calibrate: sensors.Calibration{Points: points}}, []float64{0, 0.5, 1, 2, 3}, "10 15 20 10 0"},
		"beyond the points":    {sensors.Processing{Calibrate: sensors.Calibration{Points: points}}, []float64{-1, 4}, "0 -10"},
		"two points":           {sensors.Processing{Calibrate: sensors.Calibration{Points: points[:2]}}, []float64{-1, 0.5, 4}, "0 15 50"},
		"formula":              {sensors.Processing{Calibrate: sensors.Calibration{Formula: formula(t, "x > 2 ? sqrt(x) : -v + pow(2, 3)")}}, []float64{4, 1}, "2 7"},
		"round":                {sensors.Processing{Round: 0.5}, []float64{1.2, 1.3, -0.3}, "1 1.5 -0.5"},
		"median":               {sensors.Processing{Filter: sensors.Filter{Kind: sensors.FilterMedian, N: 3}}, []float64{1, 2, 99, 3, 4}, "1 1.5 2 3 4"},
		"mean":                 {sensors.Processing{Filter: sensors.Filter{Kind: sensors.FilterMean, N: 2}}, []float64{1, 2, 4}, "1 1.5 3"},
		"exponential":          {sensors.Processing{Filter: sensors.Filter{Kind: sensors.FilterExponential, N: 3}}, []float64{0, 8, 8}, "0 4 6"},
		"on change":            {sensors.Processing{Report: sensors.Report{On: true, OnChange: 0.5}}, []float64{1, 1.4, 1.5, 1.1, 1}, "1 1.5 1"},
		"any change":           {sensors.Processing{Report: sensors.Report{On: true}}, []float64{1, 1, 2, 2, 1}, "1 2 1"},
		"at least every":       {sensors.Processing{Report: sensors.Report{On: true, OnChange: 9, AtLeastEvery: 3 * time.Second}}, []float64{1, 2, 3, 4, 5, 6, 7}, "1 4 7"},
		"told after a failure": {sensors.Processing{Report: sensors.Report{On: true, OnChange: 9}}, []float64{1, 1, nan, 1, 1}, "1 1"},
		"all in their order": {sensors.Processing{
			Calibrate: sensors.Calibration{Scale: 10}, Limits: &sensors.Limits{Min: 0, Max: 100},
			Filter: sensors.Filter{Kind: sensors.FilterMean, N: 2}, Round: 1, Report: sensors.Report{On: true, OnChange: 2},
		}, []float64{1, 1.1, 11, 1.3, 1.46}, "10 12 14"},
	} {
		t.Run(name, func(t *testing.T) {
			if got, _ := process(t, tt.how, tt.values...); strings.Join(got, " ") != tt.want {
				t.Errorf("got %v, want %s", got, tt.want)
			}
		})
	}
}

// TestWhatCannotBeTrueIsNoReading: neither by the driver's range nor by the limits of the configuration.
func TestWhatCannotBeTrueIsNoReading(t *testing.T) {
	for name, tt := range map[string]struct {
		how    sensors.Processing
		value  float64
		reason string // empty if it is reported
	}{
		"the driver's range":      {sensors.Processing{}, 1001, "v is 1001 V, want -1000 to 1000"},
		"a wider one":             {sensors.Processing{Limits: &sensors.Limits{Min: -1e4, Max: 1e4}}, 1001, ""},
		"a narrower one":          {sensors.Processing{Limits: &sensors.Limits{Min: 0, Max: 5}}, -1, "v is -1 V, want 0 to 5"},
		"of the calibrated value": {sensors.Processing{Unit: "%", Calibrate: sensors.Calibration{Scale: 100}, Limits: &sensors.Limits{Min: 0, Max: 100}}, 2, "v is 200 %, want 0 to 100"},
		"a formula's":             {sensors.Processing{Calibrate: sensors.Calibration{Formula: formula(t, "1 / (x - 1)")}}, 1, "v is +Inf after its calibration"},
	} {
		t.Run(name, func(t *testing.T) {
			told, w := process(t, tt.how, tt.value)
			if (len(told) == 0) != (tt.reason != "") {
				t.Errorf("told %v", told)
			}
			s := w.statuses["s"][0]
			if tt.reason != "" && (s.Class != sensors.Implausible || !strings.Contains(s.Reason, tt.reason)) {
				t.Errorf("got %+v, want %s", s, tt.reason)
			}
		})
	}
}

// TestNothingIsSmoothedOverAnOutage: what was measured before a long gap does not count afterwards.
func TestNothingIsSmoothedOverAnOutage(t *testing.T) {
	values := []float64{10, 10, 10}
	for range 8 { // retried after 1 s to 64 s: minutes
		values = append(values, math.NaN())
	}
	values = append(values, 50, 50)
	for _, kind := range []sensors.FilterKind{sensors.FilterMedian, sensors.FilterMean, sensors.FilterExponential} {
		got, _ := process(t, sensors.Processing{Filter: sensors.Filter{Kind: kind, N: 4}}, values...)
		if want := []string{"10", "10", "10", "50", "50"}; !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", kind, got, want)
		}
	}
}

func TestRenamed(t *testing.T) {
	_, w := process(t, sensors.Processing{As: "moisture", Unit: "%"}, 7)
	if r := w.readings["s"][0]; r.Quantity != "moisture" || r.Unit != "%" || r.Value != 7 {
		t.Errorf("got %+v", r)
	}
}

func TestFormulasThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "unexpected token",
		"x +":                          "unexpected token",
		"y + 1":                        "unknown name y",
		`"text"`:                       "something else",
		"x > 1":                        "float64",
		"3 in 1..100000000 ? 1 : 2":    "something else",
		"let a = x; a":                 "something else",
		"len('x') + 0.5":               "something else",
		"map(x, x)":                    "",
		"x.y":                          "",
		"map([x], # + 1)[0]":           "",
		"sqrt()":                       "not enough arguments",
		`sqrt("2")`:                    "",
		strings.Repeat("x+", 300):      "longer than 500 bytes",
		strings.Repeat("-", 240) + "x": "",
	} {
		if f, err := sensors.NewFormula(text, nil); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%.20q: got %v, %v, want %s", text, f, err, want)
		}
	}
}
