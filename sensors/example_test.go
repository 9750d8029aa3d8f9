package sensors_test

import (
	"context"
	"fmt"
	"time"

	"holdfast/sensors"
	"holdfast/sensors/bus"
	"holdfast/sensors/chips"
	"holdfast/sensors/simulated"
)

// A supervisor reads a chip on a simulated bus. On a real one Bus is "i2c-1", and the Set is bus.NewSet(nil).
func Example() {
	pi := simulated.New(simulated.Options{})
	air, err := pi.Place("bme280", "simulated", 0x76)
	if err != nil {
		fmt.Println(err)
		return
	}
	air.Set("temperature", 21.5)

	ctx, cancel := context.WithCancel(context.Background())
	supervisor := sensors.NewSupervisor([]sensors.Config{{
		Name: "living-room", Driver: "bme280", Bus: "simulated", Every: 10 * time.Second,
		Quantities: map[string]sensors.Processing{"temperature": {Round: 0.1}},
	}}, sensors.SupervisorOptions{
		Buses:   bus.NewSet(pi),
		Drivers: chips.Drivers(),
		Status:  func(s sensors.Status) { fmt.Println(s.Sensor, "is", s.State) },
		Reading: func(r sensors.Reading) {
			if r.Quantity == "temperature" {
				fmt.Printf("%s: %s %.1f %s\n", r.Sensor, r.Quantity, r.Value, r.Unit)
				cancel() // one is enough
			}
		},
	})
	if err := supervisor.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// living-room is ok
	// living-room: temperature 21.5 °C
}

// A formula is checked when the configuration is read, and has the other quantities of the same reading.
func ExampleNewFormula() {
	quantities := []sensors.Quantity{{Name: "temperature", Unit: "°C"}, {Name: "humidity", Unit: "%"}}
	f, err := sensors.NewFormula("x - (100 - humidity) / 5", quantities)
	fmt.Println(f, err)
	_, err = sensors.NewFormula("x + pressure", quantities)
	fmt.Println(err)
	// Output:
	// x - (100 - humidity) / 5 <nil>
	// the formula is wrong: unknown name pressure (1:5)
}

// ReadOnce takes one reading as a supervisor does it, and closes the device.
func ExampleReadOnce() {
	pi := simulated.New(simulated.Options{})
	c := sensors.Config{Name: "tank", Driver: "tmp102", Bus: "simulated", Address: 0x48}
	if err := pi.Populate(chips.Drivers(), c); err != nil {
		fmt.Println(err)
		return
	}
	pi.Chip("simulated", 0x48).Set("temperature", 4.25)
	for _, d := range chips.Drivers() {
		if d.Name != c.Driver {
			continue
		}
		readings, err := sensors.ReadOnce(context.Background(), c, &d, bus.NewSet(pi))
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, r := range readings {
			fmt.Println(r.Sensor, r.Quantity, r.Value, r.Unit)
		}
	}
	// Output: tank temperature 4.25 °C
}

// A row of the table describes its driver, for a terminal.
func ExampleDriver_Describe() {
	for _, d := range chips.Drivers() {
		if d.Name == "aht20" {
			fmt.Print(d.Describe())
		}
	}
	// Output:
	// aht20        air temperature and humidity
	// chip         Aosong (ASAIR) AHT20, AHT21, AHT25, DHT20
	// data sheet   AHT20 product manual
	// bus          i2c
	// addresses    0x38
	// wiring       VDD 2 to 5.5 V (3.3 V on a Pi); SDA, SCL with pull-ups to 3.3 V; the address is fixed
	// measures     temperature, °C, -40 to 85
	//              humidity, %, 0 to 100
	// deadline     1s
}
