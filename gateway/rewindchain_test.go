package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast/broker"
	"holdfast/broker/server"
)

// TestChainOfARewoundGateway: messages go up from one gateway and in to the next, over MQTT 5, and the data directory of
// either of them, and of the broker between them, goes back in time in the middle. Each new message arrives; what
// arrives twice was sent before.
func TestChainOfARewoundGateway(t *testing.T) {
	for _, who := range []string{"first", "between", "last"} {
		for _, way := range []string{oldJournal, oldAll, zeroed, nothing} {
			t.Run(who+", "+way, func(t *testing.T) {
				named := func(id, rest string) *site {
					s := planSite(t, rest)
					s.config = strings.Replace(s.config, "{id: site}", "{id: "+id+"}", 1)
					return s
				}
				hub := named("hub", "")
				hub.start()
				address := hub.agent.made.server.Addrs()[0].String()
				hub.config = strings.Replace(hub.config, "mqtt://127.0.0.1:0", "mqtt://"+address, 1) // the same one at each start
				first := named("first", fmt.Sprintf("bridges: [{name: up, protocol: 5, upstream: [\"mqtt://%s\"], out: [{filter: 'a/#', prefix: up/}]}]\n", address))
				last := named("last", fmt.Sprintf("bridges: [{name: down, protocol: 5, upstream: [\"mqtt://%s\"], in: [{filter: 'up/#', strip: up/}]}]\n", address))
				var mu sync.Mutex
				arrived := map[string]int{}
				more := make(chan struct{}, 1)
				last.before = func(a *Agent) {
					if _, err := a.Subscribe("a/#", func(m *broker.Message) {
						mu.Lock()
						arrived[string(m.Payload)]++
						mu.Unlock()
						select {
						case more <- struct{}{}:
						default:
						}
					}); err != nil {
						t.Fatal(err)
					}
				}
				connected := func(since time.Time) { // by a connection that was made after that
					t.Helper()
					tick := time.NewTicker(5 * time.Millisecond)
					defer tick.Stop()
					over := time.After(time.Minute)
					for _, s := range []*site{first, last} {
						for b := s.agent.Status().Bridges[0]; !b.Connected || b.Since.Before(since); b = s.agent.Status().Bridges[0] {
							select {
							case <-tick.C:
							case <-over:
								t.Fatalf("a bridge does not connect: %+v", b)
							}
						}
					}
				}
				send := func(name string, n int) {
					t.Helper()
					for i := range n {
						m := &broker.Message{Topic: "a/b", QoS: 1, Payload: fmt.Appendf(nil, "%s %d", name, i)}
						if err := first.agent.made.server.Publish(m, server.PublishOptions{}); err != nil {
							t.Fatal(err)
						}
					}
					over := time.After(time.Minute)
					for {
						mu.Lock()
						got := 0
						for i := range n {
							if arrived[fmt.Sprintf("%s %d", name, i)] > 0 {
								got++
							}
						}
						mu.Unlock()
						if got == n {
							return
						}
						select {
						case <-more:
						case <-over:
							t.Fatalf("%s: %d of %d arrived", name, got, n)
						}
					}
				}
				first.start()
				last.start()
				connected(time.Time{})
				send("before", 20)
				s := map[string]*site{"first": first, "between": hub, "last": last}[who]
				again := func() {
					since := time.Time{}
					if s == hub {
						since = time.Now()
					}
					s.start()
					connected(since)
				}
				s.stop()
				old := s.copied()
				again()
				send("forgotten", 20)
				s.stop()
				s.rewind(old, way)
				again()
				send("new", 20)
				send("newer", 20)
				mu.Lock()
				defer mu.Unlock()
				for m, n := range arrived {
					if n > 1 && strings.HasPrefix(m, "new") {
						t.Errorf("%s: came %d times", m, n)
					}
				}
			})
		}
	}
}
