package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/gateway/config"
	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

// TestClaims puts two entries beside each other: what only one of them can have is refused, in words that say who has it, and
// what they can share is not.
func TestClaims(t *testing.T) {
	const (
		door  = `sensors: [{name: door, driver: gpio-input, line: 17}]`
		relay = `outputs: [{name: relay, driver: gpio-output, line: 17, safe: off}]`
		air   = `sensors: [{name: air, driver: bme280, bus: i2c-1}]`
		valve = `outputs: [{name: valve, driver: mcp23017, bus: i2c-1, address: 0x20, pin: 4, safe: off}]`
		lamp  = `outputs: [{name: lamp, driver: pca9685, bus: i2c-1, channel: 1, safe: off, frequency: 50}]`
		fan   = `outputs: [{name: fan, driver: pwm, channel: 1, safe: off}]`
		probe = `sensors: [{name: probe, driver: ds18b20, id: 28-01}]`
	)
	sensor := func(text string) string { return "sensors: [{name: b, " + text + "}]" }
	output := func(text string) string { return "outputs: [{name: b, safe: 0, " + text + "}]" }
	for _, c := range []struct{ a, b, want string }{
		// Lines
		{door, relay, "GPIO line 17 is an input for both edges with active_low false, bias as-is and debounce 5ms, which sensors[door] needs: choose another one"},
		{door, sensor("driver: counter, line: 17, unit: L"), "GPIO line 17 is an input for edges to active with active_low false, bias as-is and debounce 0s here, and an input for both edges"},
		{door, sensor("driver: gpio-input, line: 17, bias: pull-up"), "for sensors[door]: give all the same"},
		{door, sensor("driver: gpio-input, line: 17"), ""},
		{door, sensor("driver: gpio-input, line: 5, chord: [17]"), ""},
		{relay, sensor("driver: gpio-input, line: 5, chord: [17]"), "relay].line: GPIO line 17 is an input for both edges with active_low false, bias as-is and debounce 5ms, which sensors[b] needs"},
		{door, sensor("driver: hx711, clock: 5, data: 17"), "b].data: GPIO line 17 is an input for both edges"},
		{`sensors: [{name: window, driver: mcp23017, bus: i2c-1, pin: 4, interrupt: 17}]`, relay, "GPIO line 17 is an input for both edges with active_low true, bias pull-up and debounce 0s, which sensors[window] needs"},
		{`sensors: [{name: window, driver: mcp23017, bus: i2c-1, pin: 4, interrupt: 17}]`, sensor("driver: mcp23017, bus: i2c-1, pin: 5, interrupt: 17"), ""},
		{relay, output("driver: gpio-output, line: 17"), "outputs[relay] has GPIO line 17 already"},
		{door, output("driver: gpio-output, line: 18"), ""},
		{door, sensor("driver: gpio-input, line: 17, bus: simulated"), ""},
		{door, sensor("driver: gpio-input, line: 17, chip: board"), ""},
		{sensor("driver: gpio-input, line: 200, chip: board"), `outputs: [{name: c, driver: gpio-output, line: 200, chip: board, safe: off}]`, "GPIO line 200 of board is an input for both edges"},
		{door, output("driver: gpio-output, line: 200"), "the Pi's header has lines 0 to 27"},
		{door, sensor("driver: hx711, clock: 5, data: 58"), "the Pi's header has lines 0 to 27"},
		// Lines that a bus is wired to, whichever comes first
		{air, sensor("driver: gpio-input, line: 2"), "GPIO line 2 is SDA of i2c-1, which sensors[air] needs"},
		{`sensors: [{name: air, driver: bme280, bus: i2c-1/0x70/3}]`, output("driver: gpio-output, line: 3"), "GPIO line 3 is SCL of i2c-1, which sensors[air] needs"},
		{sensor("driver: gpio-input, line: 3"), valve, "GPIO line 3 is SCL of i2c-1, and sensors[b] has it"},
		{`sensors: [{name: air, driver: bme280, bus: i2c-3}]`, sensor("driver: gpio-input, line: 2"), ""},
		{`sensors: [{name: air, driver: bme280, bus: simulated}]`, sensor("driver: gpio-input, line: 2"), ""},
		{`sensors: [{name: level, driver: mcp3008, bus: spi-0.1}]`, sensor("driver: gpio-input, line: 10"), "GPIO line 10 is MOSI of spi-0, which sensors[level] needs"},
		{`sensors: [{name: level, driver: mcp3008, bus: spi-0.1}]`, sensor("driver: gpio-input, line: 7"), "GPIO line 7 is chip select of spi-0.1, which sensors[level] needs"},
		{`sensors: [{name: level, driver: mcp3008, bus: spi-0.1}]`, sensor("driver: gpio-input, line: 8"), ""},
		{`sensors: [{name: dust, driver: sds011, bus: /dev/serial0}]`, sensor("driver: gpio-input, line: 15"), "GPIO line 15 is RXD of /dev/serial0, which sensors[dust] needs"},
		{air, sensor("driver: bmp280, bus: i2c-1, address: 0x77"), ""},
		// Pins of an expander
		{valve, output("driver: mcp23017, bus: i2c-1, address: 0x20, pin: 4"), "outputs[valve] has pin 4 of the chip on i2c-1, address 0x20 already"},
		{`sensors: [{name: window, driver: mcp23017, bus: i2c-1, address: 0x20, pin: 4}]`, valve, "sensors[window] has pin 4 of the chip on i2c-1, address 0x20 already"},
		{`sensors: [{name: window, driver: pcf8574, bus: i2c-1, pin: 4}]`, output("driver: pcf8574, bus: i2c-1, address: 0x20, pin: 4"), "sensors[window] has pin 4 of the chip on i2c-1, address 0x20 already"},
		{valve, output("driver: mcp23017, bus: i2c-1, address: 0x20, pin: 5"), ""},
		{valve, output("driver: mcp23017, bus: i2c-1, address: 0x21, pin: 4"), ""},
		{valve, output("driver: mcp23017, bus: simulated, address: 0x20, pin: 4"), ""},
		// PWM
		{lamp, output("driver: pca9685, bus: i2c-1, channel: 1, frequency: 50"), "outputs[lamp] has channel 1 of the PCA9685 on i2c-1, address 0x40 already"},
		{lamp, output("driver: pca9685, bus: i2c-1, channel: 2, frequency: 100"), "b].frequency: the frequency of the PCA9685 on i2c-1, address 0x40 is 100 Hz here, and 50 Hz for outputs[lamp]"},
		{lamp, output("driver: pca9685-servo, bus: i2c-1, channel: 2"), ""},
		{lamp, output("driver: pca9685, bus: i2c-1, address: 0x41, channel: 1, frequency: 100"), ""},
		{fan, output("driver: servo, channel: 1"), "outputs[fan] has PWM channel 1 already"},
		{fan, output("driver: servo"), ""},
		{fan, output("driver: pwm, channel: 1, chip: pwm@7e20c000"), ""},
		// Thermometers
		{probe, sensor("driver: ds18b20, id: 28-01"), "sensors[probe] has 1-Wire thermometer 28-01 already"},
		{probe, sensor("driver: w1, ids: [28-02, 28-01]"), "sensors[probe] has 1-Wire thermometer 28-01 already"},
		{probe, sensor("driver: w1"), "sensors[probe] has 1-Wire thermometer 28-01: name those that are read here"},
		{`sensors: [{name: all, driver: w1}]`, sensor("driver: ds18b20, id: 28-01"), "1-Wire thermometer 28-01 is read by sensors[all], which reads all thermometers of the 1-Wire bus"},
		{`sensors: [{name: one, driver: ds18b20}]`, sensor("driver: ds18b20"), "sensors[one] has the only 1-Wire thermometer already"},
		{probe, sensor("driver: ds18b20, id: 28-02"), ""},
		{probe, sensor("driver: w1, ids: [28-02]"), ""},
		{probe, sensor("driver: ds18b20, id: 28-01, bus: simulated"), ""},
		{`sensors: [{name: one, driver: ds2482, bus: i2c-1, id: 28-000000000001}]`, sensor("driver: ds2482, bus: i2c-1, id: 28-000000000001"), "sensors[one] has 1-Wire thermometer 28-000000000001 of the bridge on i2c-1, address 0x18 already"},
		{`sensors: [{name: one, driver: ds2482, bus: i2c-1, channel: 1}]`, sensor("driver: ds2482, bus: i2c-1, channel: 2"), ""},
	} {
		dir := t.TempDir()
		var files []string
		for i, text := range []string{c.a, c.b} {
			file := filepath.Join(dir, string(rune('a'+i))+".yaml")
			if err := os.WriteFile(file, []byte("device: {id: d}\n"+text+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		_, err := config.Load(files, config.Options{Drivers: chips.Drivers(), Outputs: outputs.Drivers()})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s\n%s\n%v", c.a, c.b, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s\n%s\ngot %v, want %s", c.a, c.b, err, c.want)
		}
	}
}
