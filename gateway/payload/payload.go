// Package payload formats numbers and times in every JSON payload that the gateway publishes.
package payload

import (
	"encoding/json"
	"time"
)

// Number is printed with all that it has: in the shortest form that reads back as the same float64, with an exponent
// below 1e-6 and from 1e21 on, as ECMAScript does (ECMA-262, Number::toString). -0 is printed as 0. Processing's Round is
// where digits are taken off.
type Number float64

// MarshalJSON prints n. NaN and infinities are an error: JSON has no form for them.
func (n Number) MarshalJSON() ([]byte, error) { return json.Marshal(float64(n) + 0) }

// Stamp is a time in UTC with milliseconds, or null for the zero time.
type Stamp time.Time

// MarshalJSON prints t.
func (t Stamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return time.Time(t).UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}
