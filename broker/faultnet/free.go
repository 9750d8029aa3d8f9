package faultnet

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

// The ports that FreeAddress gives out lie below those that Linux takes for outgoing connections and for
// port 0 (ip_local_port_range, 32768 and more unless set otherwise), so that none is taken by accident while
// nobody listens on it. Each process has a block of them to itself: it listens on the first.
const (
	firstPort  = 20_000
	blockPorts = 250
	blocks     = 48 // up to port 31999
)

var free struct {
	mu    sync.Mutex
	block net.Listener // on the first port of the block, until the process ends
	first int          // 0 without a block
	next  int          // port after first
}

// FreeAddress returns a loopback address that nobody listens on: one to listen on later, more than once, or
// never. It comes again after 249 others. It is safe for concurrent use, also by several processes.
func FreeAddress() (string, error) {
	free.mu.Lock()
	defer free.mu.Unlock()
	if free.first == 0 {
		if err := takeBlock(); err != nil {
			return "", err
		}
	}
	for range blockPorts - 1 {
		free.next = free.next%(blockPorts-1) + 1
		l, err := net.Listen("tcp", loopback(free.first+free.next))
		if err == nil {
			return l.Addr().String(), l.Close()
		}
	}
	return "", fmt.Errorf("link: no port is free from %d to %d", free.first+1, free.first+blockPorts-1)
}

// takeBlock is called with mu held.
func takeBlock() (err error) {
	for i := range blocks {
		first := firstPort + (os.Getpid()+i)%blocks*blockPorts
		l, e := net.Listen("tcp", loopback(first))
		if e == nil {
			free.block, free.first = l, first
			return nil
		}
		err = errors.Join(err, e)
	}
	return fmt.Errorf("link: no block of ports is free from %d on: %w", firstPort, err)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
