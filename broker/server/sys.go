package server

import (
	"context"
	"fmt"
	"math"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"

	"holdfast/broker"
)

// sysRoot is the prefix of the server's statistics, under Mosquitto's names. Clients may not publish
// there, except to stateTopic, and nothing of it goes to disk.
const sysRoot = "$SYS/"

func isSys(topic string) bool { return topic == "$SYS" || strings.HasPrefix(topic, sysRoot) }

// sys publishes $SYS every SysInterval: at QoS 0, retained in memory alone, and only changed values.
type sys struct {
	s       *Server
	begun   time.Time
	last    time.Time
	values  map[string]string // as published
	maxHeap uint64
	maxConn int
	before  map[string]uint64  // totals at the last update, by topic
	loads   map[string]float64 // per minute, by topic
}

func (s *Server) runSys(ctx context.Context) {
	now := time.Now()
	y := &sys{
		s: s, begun: now, last: now, values: map[string]string{}, before: map[string]uint64{}, loads: map[string]float64{},
	}
	tick := time.NewTicker(s.opts.SysInterval)
	defer tick.Stop()
	y.tell("broker/version", s.opts.Version)
	for {
		y.update(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (y *sys) update(now time.Time) {
	st, c := y.s.Stats(), &y.s.counts
	y.tell("broker/uptime", fmt.Sprintf("%d seconds", int64(now.Sub(y.begun)/time.Second)))

	y.maxConn = max(y.maxConn, st.Connected)
	away := st.Sessions - st.Connected
	y.count("broker/clients/connected", st.Connected)
	y.count("broker/clients/active", st.Connected)
	y.count("broker/clients/disconnected", away)
	y.count("broker/clients/inactive", away)
	y.count("broker/clients/total", st.Sessions)
	y.count("broker/clients/maximum", y.maxConn)
	y.count("broker/clients/expired", int(c.expired.Load()))

	stored := st.Retained
	for _, r := range y.s.journal.Readers() {
		if strings.HasPrefix(r.Name, sessionKey) {
			stored += int(r.Depth)
		}
	}
	bytes := y.s.retained.Bytes() + int(y.s.memory.waiting.Load())
	y.count("broker/messages/stored", stored)
	y.count("broker/store/messages/count", stored)
	y.count("broker/store/messages/bytes", bytes)
	y.count("broker/retained messages/count", st.Retained)
	y.count("broker/subscriptions/count", st.Subscriptions)

	heap := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(heap)
	y.maxHeap = max(y.maxHeap, heap[0].Value.Uint64())
	y.count("broker/heap/current", int(heap[0].Value.Uint64()))
	y.count("broker/heap/maximum", int(y.maxHeap))

	elapsed := now.Sub(y.last)
	y.last = now
	for _, t := range []struct {
		total, load string
		n           uint64
	}{
		{"messages/received", "messages/received", c.packetsIn.Load()},
		{"messages/sent", "messages/sent", c.packetsOut.Load()},
		{"publish/messages/received", "publish/received", st.Received},
		{"publish/messages/sent", "publish/sent", st.Sent},
		{"publish/messages/dropped", "publish/dropped", st.Dropped.Queue + st.Dropped.Size + st.Dropped.Expired + st.Dropped.Refused},
		{"publish/bytes/received", "", c.publishBytesIn.Load()},
		{"publish/bytes/sent", "", c.publishBytesOut.Load()},
		{"bytes/received", "bytes/received", c.bytesIn.Load()},
		{"bytes/sent", "bytes/sent", c.bytesOut.Load()},
		{"", "sockets", c.sockets.Load()},
		{"", "connections", c.connects.Load()},
	} {
		if t.total != "" {
			y.tell("broker/"+t.total, strconv.FormatUint(t.n, 10))
		}
		if t.load != "" {
			y.load("broker/load/"+t.load, t.n, elapsed)
		}
	}
}

// load publishes exponential averages of a rate per minute, over one, five and fifteen minutes.
func (y *sys) load(topic string, total uint64, elapsed time.Duration) {
	if elapsed <= 0 {
		return
	}
	rate := float64(total-y.before[topic]) / elapsed.Minutes()
	y.before[topic] = total
	for _, minutes := range []int{1, 5, 15} {
		name := fmt.Sprintf("%s/%dmin", topic, minutes)
		keep := math.Exp(-elapsed.Minutes() / float64(minutes))
		y.loads[name] = rate + keep*(y.loads[name]-rate)
		y.tell(name, strconv.FormatFloat(y.loads[name], 'f', 2, 64))
	}
}

func (y *sys) count(topic string, n int) { y.tell(topic, strconv.Itoa(n)) }

// tell publishes a value if it has changed.
func (y *sys) tell(topic, value string) {
	if old, ok := y.values[topic]; ok && old == value {
		return
	}
	y.values[topic] = value
	now := time.Now()
	m := &broker.Message{Topic: sysRoot + topic, Payload: []byte(value), Retain: true}
	p := newPublication(y.s, m, now)
	p.own = true
	p.audience.find(y.s.index.Named(m.Topic))
	y.s.retain(p)
	p.settle(nil, nil)
	p.release()
}
