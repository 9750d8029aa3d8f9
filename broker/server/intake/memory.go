package intake

import (
	"sync"

	"holdfast/broker/wire"
)

// ErrMemory ends a connection at the limit of Memory.
var ErrMemory = &wire.Error{Code: wire.QuotaExceeded, Text: "too much memory is taken by unfinished packets"}

// Memory counts the memory of packets that have arrived in part, of all connections together. When it runs
// out, the connection with the most loses its own. It is safe for concurrent use.
type Memory struct {
	most int64

	mu     sync.Mutex // a leaf; guards what follows
	used   int64
	held   map[*Reader]int64
	spares [][]byte // buffers that are used again instead of left to the collector; they count in most
	spare  int64    // bytes of them
}

// NewMemory returns a limit of that many bytes.
func NewMemory(most int64) *Memory { return &Memory{most: most, held: map[*Reader]int64{}} }

// buffer returns a buffer of size bytes or a little more, whose content does not matter. It counts when it is held.
func (m *Memory) buffer(size int) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, b := range m.spares {
		if len(b) >= size && len(b) <= size+size/4 {
			m.dropSpare(i)
			return b
		}
	}
	return make([]byte, size)
}

// putBuffer takes back a buffer that is not held any more, if there is room for it.
func (m *Memory) putBuffer(b []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.used+m.spare+int64(len(b)) <= m.most {
		m.spares = append(m.spares, b)
		m.spare += int64(len(b))
	}
}

// dropSpare is called with mu held.
func (m *Memory) dropSpare(i int) {
	last := len(m.spares) - 1
	m.spare -= int64(len(m.spares[i]))
	m.spares[i], m.spares[last] = m.spares[last], nil
	m.spares = m.spares[:last]
}

// hold sets r's memory to n bytes, and reports whether there is room for it. victims are readers with more than n
// bytes whose memory was taken for it: the caller ends their connections.
func (m *Memory) hold(r *Reader, n int64) (victims []*Reader, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	used := m.used - m.held[r]
	for used+n > m.most {
		var largest *Reader
		for other, has := range m.held {
			if other != r && has > n && (largest == nil || has > m.held[largest]) {
				largest = other
			}
		}
		if largest == nil {
			return victims, false
		}
		used -= m.held[largest]
		delete(m.held, largest)
		victims = append(victims, largest)
	}
	if n > 0 {
		m.held[r] = n
	} else {
		delete(m.held, r)
	}
	m.used = used + n
	for len(m.spares) > 0 && used+n+m.spare > m.most {
		m.dropSpare(len(m.spares) - 1)
	}
	return victims, true
}
