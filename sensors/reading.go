package sensors

import "time"

// Reading is one measured value. A reading is only ever made from bytes that the hardware has
// answered for it: there are no stale, repeated or invented readings.
type Reading struct {
	Sensor   string    // the configured sensor's name
	Quantity string    // what was measured, in lower case: "temperature", "humidity", "voltage"
	Value    float64   // in Unit; never NaN or infinite
	Unit     string    // UCUM-like printed form: "°C", "%", "hPa", "V"
	Time     time.Time // when the sensor was read, or its event happened, with the monotonic clock
	Urgent   bool      // it is an edge of an input, and does not wait for others to be committed with it
}

// State is what supervision knows of a sensor.
type State string

// The states of a sensor. Absent means that the hardware does not answer, failing that it answers
// wrongly or not in time.
const (
	StateOK      State = "ok"
	StateFailing State = "failing"
	StateAbsent  State = "absent"
)

// Status is how a sensor is doing. A Supervisor reports one when the state or the reason changes.
type Status struct {
	Sensor   string
	State    State
	Class    Class     // of the failure; empty if OK
	Reason   string    // of the failure; empty if OK
	Since    time.Time // when this state began
	LastGood time.Time // time of the last reading, zero if there was none
}
