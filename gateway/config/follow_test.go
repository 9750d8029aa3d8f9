package config

import (
	"strings"
	"testing"
	"time"

	"holdfast/sensors/chips"
	"holdfast/sensors/outputs"
)

// TestFollow: an output follows a reading that there is, and is valid for some of its intervals.
func TestFollow(t *testing.T) {
	const before = `device: {id: pi}
bridges: [{name: up, upstream: ["mqtt://h"], in: [{filter: "sensors/far/#"}]}]
sensors:
  - {name: button, driver: gpio-input, line: 5}
  - {name: quick.one, driver: gpio-input, line: 6, every: 100ms, quantities: {state: {as: down}}}
  - {name: slow, driver: gpio-input, line: 7, every: 1m}
  - {name: quiet, driver: gpio-input, line: 8, report: {on_change: 1}}
  - {name: calm, driver: gpio-input, line: 9, report: {on_change: 1, at_least_every: 20s}}
  - {name: kernel, driver: iio, device: x}
`
	local := func(sensor, quantity string) outputs.Follow {
		return outputs.Follow{Sensor: sensor, Quantity: quantity}
	}
	for _, tt := range []struct {
		keys    string
		follow  outputs.Follow
		lease   time.Duration
		refused string // part of the error
		warned  bool
	}{
		{keys: "follow: button.state", follow: local("button", "state"), lease: 30 * time.Second},
		{keys: "follow: button.state, lease: 1h", follow: local("button", "state"), lease: time.Hour},
		{keys: "follow: button.state, lease: 0s", follow: local("button", "state")},
		{keys: "follow: sensors/pi/button/state", follow: local("button", "state"), lease: 30 * time.Second},
		{keys: "follow: quick.one.down", follow: local("quick.one", "down"), lease: 10 * time.Second},
		{keys: "follow: slow.state", follow: local("slow", "state"), lease: 3 * time.Minute},
		{keys: "follow: calm.state", follow: local("calm", "state"), lease: time.Minute},
		{keys: "follow: quiet.state", refused: "published only when it changes, so nothing shows whether it is stale: set report.at_least_every"},
		{keys: "follow: quiet.state, lease: 0s", follow: local("quiet", "state")},
		{keys: "follow: kernel.illuminance", follow: local("kernel", "illuminance"), lease: 30 * time.Second},
		{keys: "follow: sensors/far/button/state", follow: outputs.Follow{Topic: "sensors/far/button/state"}, lease: 30 * time.Second},
		{keys: "follow: sensors/near/button/state", follow: outputs.Follow{Topic: "sensors/near/button/state"}, lease: 30 * time.Second, warned: true},
		{keys: "follow: zigbee2mqtt/switch, lease: 0s", follow: outputs.Follow{Topic: "zigbee2mqtt/switch"}},
		{keys: "", follow: outputs.Follow{}},

		{keys: "follow: buton.state", refused: `outputs[relay].follow: no sensor here publishes buton.state, did you mean "button.state"?`},
		{keys: "follow: button.stat", refused: `did you mean "button.state"?`},
		{keys: "follow: button", refused: `want button.state`},
		{keys: "follow: quick.one.state", refused: `no sensor here publishes quick.one.state`},
		{keys: "follow: sensors/pi/buton/state", refused: `did you mean "button.state"?`},
		{keys: "follow: kernel.", refused: "no sensor here publishes kernel."},
		{keys: `follow: "sensors/+/button/state"`, refused: "without wildcards"},
		{keys: `follow: "$SYS/broker/uptime"`, refused: "the broker's own"},
		{keys: "follow: outputs/pi/relay", refused: "cannot follow itself"},
		{keys: "follow: outputs/pi/relay/set", refused: "cannot follow itself"},
		{keys: "follow: 5", refused: "outputs[relay].follow"},
	} {
		text := before + "outputs: [{name: relay, driver: gpio-output, line: 4, safe: off, " + tt.keys + "}]\n"
		opts := options()
		opts.Drivers, opts.Outputs = chips.Drivers(), outputs.Drivers()
		opts.ReadFile = func(string, int64) ([]byte, error) { return []byte(text), nil }
		c, err := Load([]string{"a.yaml"}, opts)
		switch {
		case tt.refused != "":
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%s: got %v, want %s", tt.keys, err, tt.refused)
			}
		case err != nil:
			t.Errorf("%s: %v", tt.keys, err)
		default:
			if o := c.Outputs[0]; o.Follow != tt.follow || o.Lease != tt.lease {
				t.Errorf("%s: follows %+v for %v, want %+v for %v", tt.keys, o.Follow, o.Lease, tt.follow, tt.lease)
			}
			if warned := len(c.Warnings()) > 0; warned != tt.warned {
				t.Errorf("%s: warnings %v", tt.keys, c.Warnings())
			}
		}
	}
	opts := options()
	opts.ReadFile = func(string, int64) ([]byte, error) {
		return []byte("outputs: [{name: relay, driver: gpio-output, line: 4, safe: off, follow: button.state}]\n"), nil
	}
	if _, err := Load([]string{"a.yaml"}, opts); err == nil || !strings.Contains(err.Error(), "there is no sensor to follow") {
		t.Errorf("without sensors: %v", err)
	}
}
