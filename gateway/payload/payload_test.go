package payload

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestNumbersReadBackTheSame: of the whole range of float64, and JSON has a form for each finite one.
func TestNumbersReadBackTheSame(t *testing.T) {
	values := []float64{
		0, math.Copysign(0, -1), 0.1, 1.0 / 3, 5e-7, 4e-7, 2.5e-9, 1e-6, 1e21, 1e21 / 3, 1.79e302, 1.8e302, 1.01e304, 1 << 53,
		math.MaxFloat64, -math.MaxFloat64, math.SmallestNonzeroFloat64, math.NaN(), math.Inf(1), math.Inf(-1),
	}
	rng := rand.New(rand.NewPCG(8, 1))
	for range 100_000 {
		values = append(values, math.Float64frombits(rng.Uint64()))
	}
	for _, v := range values {
		text, err := json.Marshal(Number(v))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if err == nil {
				t.Fatalf("%v is printed as %s", v, text)
			}
			continue
		}
		var got float64
		if err := json.Unmarshal(text, &got); err != nil || got != v || strings.HasPrefix(string(text), "-0") && v == 0 {
			t.Fatalf("%v is printed as %s, which reads as %v (%v)", v, text, got, err)
		}
	}
}

// TestForms: payloads are a contract with their consumers.
func TestForms(t *testing.T) {
	for want, v := range map[string]any{
		"21.37":                      Number(21.37),
		"0":                          Number(math.Copysign(0, -1)),
		"-12000000":                  Number(-12e6),
		"0.0000025":                  Number(2.5e-6),
		"4e-7":                       Number(4e-7),
		"333333333333333300000":      Number(1e21 / 3),
		"1.01e+304":                  Number(1.01e304),
		`"2026-11-22T10:00:00.123Z"`: Stamp(time.Date(2026, 11, 22, 11, 0, 0, 123_999_999, time.FixedZone("CET", 3600))),
		"null":                       Stamp{},
	} {
		if got, err := json.Marshal(v); err != nil || string(got) != want {
			t.Errorf("got %s %v, want %s", got, err, want)
		}
	}
}
