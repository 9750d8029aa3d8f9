package main

import (
	"strings"
	"testing"
)

// TestChecker shows that the checker finds what it is there for.
func TestChecker(t *testing.T) {
	const sent, acked = 30, 20
	p := &publisher{topic: "pub/1"}
	for n := range sent {
		p.acked = append(p.acked, n < acked)
	}
	stored := func(numbers ...int) (payloads [][]byte) {
		for _, n := range numbers {
			payloads = append(payloads, p.content(n))
		}
		return payloads
	}
	upTo := func(n int) (numbers []int) {
		for i := range n {
			numbers = append(numbers, i)
		}
		return numbers
	}
	changed := stored(upTo(acked)...)
	changed[7][10] ^= 1
	for name, c := range map[string]struct {
		payloads [][]byte
		ok       bool
		want     string
	}{
		"everything":           {stored(upTo(acked)...), true, "20 acknowledged, 20 found, 0 lost, 0 duplicated"},
		"more than was told":   {stored(upTo(25)...), true, "20 found, 0 lost, 0 duplicated by resend, 5 stored and not acknowledged"},
		"sent again":           {stored(append(upTo(23), 20, 21, 22, 23)...), true, "0 lost, 3 duplicated by resend, 4 stored and not acknowledged"},
		"one is missing":       {stored(append(upTo(7), upTo(acked)[8:]...)...), false, "19 found, 1 lost"},
		"the end is missing":   {stored(upTo(19)...), false, "19 found, 1 lost"},
		"nothing":              {nil, false, "0 found, 20 lost"},
		"two in wrong order":   {stored(append([]int{0, 2, 1}, upTo(acked)[3:]...)...), false, "1 out of order"},
		"an old one comes up":  {stored(append(upTo(acked), 1)...), false, "1 out of order"},
		"one has changed":      {changed, false, "1 lost, 0 duplicated by resend, 0 stored and not acknowledged, 1 corrupt"},
		"one was never sent":   {stored(append(upTo(acked), 31)...), false, "1 invented"},
		"one is of nobody":     {append(stored(upTo(acked)...), []byte("x")), false, "1 invented"},
		"not sent but invited": {stored(append(upTo(acked), 29)...), false, "1 out of order"},
	} {
		t.Run(name, func(t *testing.T) {
			check := newChecker([]*publisher{p})
			for _, b := range c.payloads {
				check.add(p.topic, b)
			}
			f := check.result()
			if f.ok() != c.ok || !strings.Contains(f.String(), c.want) {
				t.Errorf("got %v, %s, want %v, %s", f.ok(), f, c.ok, c.want)
			}
		})
	}
}
