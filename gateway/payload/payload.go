// Package payload formats numbers and times in every JSON payload that the gateway publishes.
package payload

import (
	"math"
	"strconv"
	"time"
)

// Number is printed with at most six decimals, which no sensor exceeds, no exponent, and no -0.
type Number float64

// MarshalJSON prints n.
func (n Number) MarshalJSON() ([]byte, error) {
	return strconv.AppendFloat(nil, math.Round(float64(n)*1e6)/1e6+0, 'f', -1, 64), nil
}

// Stamp is a time in UTC with milliseconds, or null for the zero time.
type Stamp time.Time

// MarshalJSON prints t.
func (t Stamp) MarshalJSON() ([]byte, error) {
	if time.Time(t).IsZero() {
		return []byte("null"), nil
	}
	return time.Time(t).UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}
