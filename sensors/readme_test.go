package sensors_test

import (
	"flag"
	"testing"

	"holdfast/sensors"
	"holdfast/sensors/chips"
	"holdfast/sensors/sensorstest"
)

var update = flag.Bool("update", false, "rewrite the README's table of drivers")

// TestReadme: the README's table of drivers is the program's.
func TestReadme(t *testing.T) {
	sensorstest.README(t, sensors.Markdown(chips.Drivers()), *update)
}
