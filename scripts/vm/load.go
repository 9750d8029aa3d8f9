package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

const (
	publishers = 4
	inFlight   = 8 // of each
)

// load publishes numbered messages to the gateway at QoS 1 and remembers which were acknowledged.
type load struct {
	mu      sync.Mutex
	next    [publishers]int
	numbers map[string][]int // acknowledged
	changed chan struct{}

	quit chan struct{}
	work sync.WaitGroup
}

// start publishes to addr until stop. Numbers go on where the last load ended.
func (l *load) start(addr string) {
	l.quit = make(chan struct{})
	for p := range publishers {
		l.work.Go(func() { l.publish(p, addr) })
	}
}

func (l *load) stop() {
	if l.quit != nil {
		close(l.quit)
		l.work.Wait()
		l.quit = nil
	}
}

func (l *load) publish(p int, addr string) {
	topic := fmt.Sprintf("load/%d", p)
	o := mqtt.NewClientOptions().AddBroker("tcp://" + addr).SetClientID(topic).SetCleanSession(false).
		SetConnectRetry(true).SetConnectRetryInterval(time.Second).SetMaxReconnectInterval(time.Second).SetConnectTimeout(20 * time.Second)
	c := mqtt.NewClient(o)
	c.Connect()
	defer c.Disconnect(0)
	room := make(chan struct{}, inFlight)
	for {
		select {
		case room <- struct{}{}:
		case <-l.quit:
			return
		}
		l.mu.Lock()
		n := l.next[p]
		l.next[p]++
		l.mu.Unlock()
		// The library sends it again after a connection is lost, until it is acknowledged.
		token := c.Publish(topic, 1, false, fmt.Sprintf("%d %s", n, strings.Repeat("x", 200)))
		l.work.Go(func() {
			defer func() { <-room }()
			select {
			case <-token.Done():
				if token.Error() == nil {
					l.note(topic, n)
				}
			case <-l.quit:
			}
		})
		select { // some hundreds a second together: an emulated processor has other work, too
		case <-time.After(20 * time.Millisecond):
		case <-l.quit:
			return
		}
	}
}

func (l *load) note(topic string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.numbers == nil {
		l.numbers = map[string][]int{}
	}
	l.numbers[topic] = append(l.numbers[topic], n)
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// acked is a copy of what was acknowledged, by topic.
func (l *load) acked() map[string][]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	numbers := maps.Clone(l.numbers)
	for topic := range numbers {
		numbers[topic] = slices.Clone(numbers[topic])
	}
	return numbers
}

func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count()
}

func (l *load) count() (n int) {
	for _, numbers := range l.numbers {
		n += len(numbers)
	}
	return n
}

// more waits for n further acknowledgements.
func (l *load) more(ctx context.Context, n int) error {
	l.mu.Lock()
	want := l.count() + n
	l.mu.Unlock()
	for {
		l.mu.Lock()
		if l.count() >= want {
			l.mu.Unlock()
			return nil
		}
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed := l.changed
		l.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("fewer than %d further acknowledgements: %w", n, context.Cause(ctx))
		}
	}
}
