package torture

import (
	"testing"

	"holdfast/gateway/verify"
)

// TestPlace: the number that a new series begins above is no reading's.
func TestPlace(t *testing.T) {
	for seq, want := range map[uint64]uint64{0: 0, 1: 1, 1000: 1000, verify.Series: 0, verify.Series + 1: 1, 5*verify.Series + 7: 7} {
		if stream, n := place(seq); n != want || (stream == "readings 0") != (seq < verify.Series) {
			t.Errorf("%d: got %d of %s, want %d", seq, n, stream, want)
		}
	}
}
