package backoff

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 60 * time.Second}
	for range 2 {
		for _, ceiling := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			if d := b.Next(); d < 0 || d > ceiling*time.Second {
				t.Errorf("got %v, want at most %v", d, ceiling*time.Second)
			}
		}
		b.Reset()
	}
	var quarters [4]int
	for range 1000 {
		b.ceiling = b.Max
		quarters[min(3, int(b.Next()/(b.Max/4)))]++
	}
	for i, n := range quarters {
		if n < 100 { // 250 expected; 100 is 11 standard deviations away
			t.Errorf("quarter %d of the range got %d of 1000 waits", i, n)
		}
	}
}

func TestLocal(t *testing.T) {
	b := Backoff{Min: time.Second, Max: 10 * time.Second}
	for range 100 {
		for _, ceiling := range []time.Duration{1, 2, 4, 8, 10, 10} {
			if d := b.Local(); d < ceiling*time.Second/2 || d > ceiling*time.Second {
				t.Fatalf("got %v, want %v to %v", d, ceiling*time.Second/2, ceiling*time.Second)
			}
		}
		b.Reset()
	}
}
