package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"holdfast/broker/wire"
)

// window is how many messages a publisher has in flight: QoS 1, MQTT 3.1.1.
const window = 16

// publisher publishes 0, 1, 2, ... to a topic of its own and remembers what was acknowledged. After a
// cut it sends again what was not, in the same order, and goes on.
type publisher struct {
	topic string

	mu    sync.Mutex
	acked []bool // by number; its length is how many were ever sent
}

// content is message n: its number, and bytes that only it has.
func (p *publisher) content(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), uint64(crc32.ChecksumIEEE([]byte(p.topic)))))
	size := 20 + r.IntN(300)
	if r.IntN(20) == 0 {
		size = 4000 + r.IntN(4000)
	}
	b := binary.BigEndian.AppendUint64(make([]byte, 0, size), uint64(n))
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b
}

// publish works until ctx ends. A connection that ends before is opened again: one that took too long
// may have been answered late and have ended the one after it. first is called at each acknowledgement.
func (p *publisher) publish(ctx context.Context, addr string, first func()) {
	for ctx.Err() == nil {
		if conn, r, err := connect(ctx, addr, p.topic); err == nil {
			p.use(ctx, conn, r, first)
		}
	}
}

// use publishes over one connection until that ends.
func (p *publisher) use(ctx context.Context, conn net.Conn, r *wire.Reader, first func()) {
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()

	p.mu.Lock()
	var again []int
	for n, ok := range p.acked {
		if !ok {
			again = append(again, n)
		}
	}
	p.mu.Unlock()
	room := make(chan struct{}, window)
	inFlight := make(chan struct{}) // closed when reading has ended
	ids := map[uint16]int{}         // guarded by p.mu
	go func() {
		defer close(inFlight)
		defer conn.Close()
		for {
			packet, err := r.ReadPacket()
			if err != nil {
				return
			}
			ack, ok := packet.(*wire.Ack)
			if !ok || ack.Type != wire.PUBACK || ack.Code >= 0x80 {
				return
			}
			p.mu.Lock()
			n, ok := ids[ack.ID]
			delete(ids, ack.ID)
			if ok {
				p.acked[n] = true
			}
			p.mu.Unlock()
			if !ok {
				return
			}
			first()
			<-room
		}
	}()
	id := uint16(0)
	for {
		select {
		case room <- struct{}{}:
		case <-inFlight:
			return
		}
		dup, n := len(again) > 0, 0
		id = id%60000 + 1
		p.mu.Lock()
		if dup {
			n, again = again[0], again[1:]
		} else {
			n = len(p.acked)
			p.acked = append(p.acked, false)
		}
		ids[id] = n
		p.mu.Unlock()
		b := wire.Append(nil, wire.V311, &wire.Publish{Topic: p.topic, Payload: p.content(n), QoS: 1, ID: id, Dup: dup})
		if _, err := conn.Write(b); err != nil {
			<-inFlight
			return
		}
	}
}

// connect tries until the guest's broker answers. QEMU takes the connection long before.
func connect(ctx context.Context, addr, id string) (net.Conn, *wire.Reader, error) {
	for {
		conn, r, err := tryConnect(ctx, addr, id)
		if err == nil {
			return conn, r, nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, nil, errors.Join(ctx.Err(), err)
		}
	}
}

func tryConnect(ctx context.Context, addr, id string) (net.Conn, *wire.Reader, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	r := wire.NewReader(conn, 0)
	_, err = conn.Write(wire.Append(nil, wire.V311, &wire.Connect{Version: wire.V311, ClientID: id, CleanStart: true}))
	if err == nil {
		var p wire.Packet
		if p, err = r.ReadPacket(); err == nil {
			if c, ok := p.(*wire.Connack); !ok || c.Code != 0 {
				err = fmt.Errorf("connect: got %T %+v", p, p)
			}
		}
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, r, nil
}
