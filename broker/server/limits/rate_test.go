package limits

import (
	"fmt"
	"net"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	at := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1} }
	now := time.Unix(1000, 0)
	a := NewRate(10, 2)
	count := func(from net.Addr, tries int) (n int) {
		for range tries {
			if ok, _ := a.Allows(from, now); ok {
				n++
			}
		}
		return n
	}
	if n := count(at("192.0.2.1"), 100); n != 2*burst {
		t.Errorf("one address: %d at once, want %d", n, 2*burst)
	}
	if n := count(at("::ffff:192.0.2.1"), 10); n != 0 {
		t.Errorf("the same address in another form: %d", n)
	}
	if n := count(at("2001:db8::1"), 100) + count(at("2001:db8::2"), 100); n != 2*burst {
		t.Errorf("one /64: %d", n)
	}
	if n := count(at("127.0.0.1"), 1000) + count(at("::1"), 1000) + count(&net.UnixAddr{}, 1000); n != 3000 {
		t.Errorf("this machine: %d", n)
	}
	now = now.Add(time.Second)
	if n := count(at("192.0.2.1"), 100); n != 2 {
		t.Errorf("a second later: %d, want 2", n)
	}
	n := 0
	for i := range 2 * maxAddresses {
		n += count(at(fmt.Sprintf("2001:db8:%x::1", i)), 1)
	}
	if n > 10*burst || len(a.addresses) != maxAddresses {
		t.Errorf("from everywhere: %d, %d remembered", n, len(a.addresses))
	}
	now = now.Add(time.Hour)
	held := at("192.0.2.77")
	for i := range 20 * maxAddresses { // one connection from each of many does not set free who is held back
		if i%maxAddresses == 0 {
			count(held, 100)
		}
		count(at(fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&255, i&255)), 1)
	}
	if b, ok := a.addresses["192.0.2.77"]; !ok || b.left >= 1 {
		t.Errorf("forgotten: %v, %+v", ok, b)
	}
	now = now.Add(time.Hour)
	reports, refused := 0, 0
	for range 100 {
		ok, report := a.Allows(at("198.51.100.1"), now)
		if !ok {
			refused++
		}
		if report > 0 {
			reports++
		}
	}
	if reports != 1 || refused != 100-2*burst {
		t.Errorf("%d lines for %d refusals", reports, refused)
	}
	if ok, _ := NewRate(0, 0).Allows(at("192.0.2.1"), now); !ok {
		t.Error("no limit")
	}
}
