package bridge

import (
	"testing"

	"holdfast/broker/wire"
)

// FuzzUpstream takes apart what an upstream sends after its CONNACK: it ends in an error or in packets that a
// session knows what to do with, whatever the bytes are, and none is taken twice.
func FuzzUpstream(f *testing.F) {
	for _, version := range []wire.Version{wire.V311, wire.V5} {
		var all []byte
		for _, p := range []wire.Packet{
			&wire.Ack{Type: wire.PUBACK, ID: 1},
			&wire.Publish{Topic: "site/cmd", QoS: 1, ID: 2, Payload: []byte("on")},
			&wire.Suback{Type: wire.SUBACK, ID: 3, Codes: []wire.Code{1}},
			&wire.Ping{Type: wire.PINGRESP},
			&wire.Disconnect{},
		} {
			one := wire.Append(nil, version, p)
			f.Add(version == wire.V5, one)
			all = append(all, one...)
		}
		f.Add(version == wire.V5, all)
		f.Add(version == wire.V5, append([]byte{0x32, 0xff, 0xff, 0xff, 0x7f, 0, 1, 't', 0, 1}, all...))
	}
	f.Fuzz(func(t *testing.T, five bool, b []byte) {
		l := &link{version: wire.V311, in: input{buf: b}, free: make(chan *batch, 1), stop: make(chan struct{})}
		if five {
			l.version = wire.V5
		}
		for {
			l.free <- &batch{}
			before := len(l.in.buf)
			got, err := l.take()
			if got == nil {
				return // no whole packet, or an error at the first one
			}
			for _, p := range got.packets {
				switch p := p.(type) {
				case *wire.Publish:
					if p.Topic == "" || p.QoS > 1 || p.QoS == 1 && p.ID == 0 {
						t.Fatalf("takes %+v", p)
					}
				case *wire.Suback, *wire.Ping, oversized:
				default:
					t.Fatalf("takes %+v", p)
				}
			}
			if err != nil {
				return
			}
			if len(l.in.buf) >= before {
				t.Fatalf("%d bytes are left of %d", len(l.in.buf), before)
			}
		}
	})
}
