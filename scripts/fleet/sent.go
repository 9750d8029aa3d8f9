package main

import (
	"fmt"
	"io"
	"sync"

	"holdfast/broker/wire"
)

// sent is what gateways have handed to nodes, by connection. The cluster may lose one message of several and keep
// those behind it when a node dies; what comes out of order in the stream says nothing of gateways by itself.
type sent struct {
	mu          sync.Mutex
	connections []*connection // as they began
}

// connection holds the numbers that one gateway has sent.
type connection struct {
	gateway int
	numbers []int
}

// watch notes what a gateway sends, until its connection ends.
func (s *sent) watch(r io.Reader) {
	c := &connection{gateway: -1}
	s.mu.Lock()
	s.connections = append(s.connections, c)
	s.mu.Unlock()
	for packets := wire.NewReader(r, 0); ; {
		packet, err := packets.ReadPacket()
		if err != nil {
			break
		}
		p, ok := packet.(*wire.Publish)
		var gateway, number int
		if !ok {
			continue
		}
		if _, err := fmt.Sscanf(string(p.Payload), "%d %d", &gateway, &number); err == nil {
			s.mu.Lock()
			c.gateway, c.numbers = gateway, append(c.numbers, number)
			s.mu.Unlock()
		}
	}
	_, _ = io.Copy(io.Discard, r)
}

// disorder is how many messages were sent for the first time before one that comes first, or were sent again
// behind one that comes later.
func (s *sent) disorder() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := map[int]int{}
	for _, c := range s.connections {
		last := -1
		for _, number := range c.numbers {
			if number <= last || number > next[c.gateway] {
				n++
			}
			last, next[c.gateway] = number, max(next[c.gateway], number+1)
		}
	}
	return n
}
