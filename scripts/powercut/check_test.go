package main

import (
	"fmt"
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

// TestArchive compares with what cpio -o -H newc writes.
func TestArchive(t *testing.T) {
	got := string(archive([]file{{"a", 0o644, []byte("hello\n")}, {"bin", dir, nil}}))
	header := func(ino, mode, size, name int) string {
		return fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0)
	}
	want := header(1, 0o100644, 6, 2) + "a\x00" + "hello\n\x00\x00" +
		header(2, 0o40755, 0, 4) + "bin\x00\x00\x00" +
		header(3, 0o100000, 0, 11) + "TRAILER!!!\x00\x00\x00\x00"
	if got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}
