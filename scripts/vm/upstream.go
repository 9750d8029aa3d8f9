package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"holdfast/scripts/child"
)

// upstream is a Mosquitto on this machine, and a subscriber that remembers what arrived there.
type upstream struct {
	work string
	port int

	server     *child.Process
	subscriber mqtt.Client

	mu       sync.Mutex
	arrived  chan struct{}   // closed and made anew with each message
	readings map[uint64]bool // by seq
	first    string          // the first reading, as topic and payload
	load     map[string]map[int]bool
	again    int // messages of the load that came more than once
}

func newUpstream(work string) (*upstream, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstream{work: work, port: l.Addr().(*net.TCPAddr).Port, arrived: make(chan struct{}),
		readings: map[uint64]bool{}, load: map[string]map[int]bool{}}
	l.Close()
	// What it has acknowledged it keeps over its own stop: a loss is then the gateway's.
	dir := filepath.Join(work, "upstream")
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o777); err != nil { // it gives up being root
		return nil, err
	}
	if err := os.Chmod(work, 0o755); err != nil {
		return nil, err
	}
	config := fmt.Sprintf("listener %d 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location %s/\nmax_queued_messages 0\n", u.port, dir)
	if err := os.WriteFile(filepath.Join(work, "mosquitto.conf"), []byte(config), 0o644); err != nil {
		return nil, err
	}
	if err := u.start(); err != nil {
		return nil, err
	}
	o := mqtt.NewClientOptions().AddBroker(fmt.Sprintf("tcp://127.0.0.1:%d", u.port)).SetClientID("judge").SetCleanSession(false).
		SetConnectRetry(true).SetConnectRetryInterval(time.Second).SetMaxReconnectInterval(time.Second).SetOrderMatters(true).
		SetOnConnectHandler(func(c mqtt.Client) { c.Subscribe("#", 1, u.take) })
	u.subscriber = mqtt.NewClient(o)
	token := u.subscriber.Connect()
	token.Wait()
	return u, token.Error()
}

func (u *upstream) start() error {
	mosquitto, err := child.Find("mosquitto")
	if err != nil {
		return err
	}
	u.server, err = child.Start(exec.Command(mosquitto, "-c", filepath.Join(u.work, "mosquitto.conf")))
	return err
}

// stop takes the upstream away.
func (u *upstream) stop() error {
	return u.server.Stop(5 * time.Minute) // it writes what it has acknowledged
}

func (u *upstream) close() {
	u.subscriber.Disconnect(0)
	u.stop()
}

func (u *upstream) take(_ mqtt.Client, m mqtt.Message) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case strings.HasPrefix(m.Topic(), "sensors/"):
		var reading struct{ Seq uint64 }
		if json.Unmarshal(m.Payload(), &reading) == nil && strings.HasPrefix(m.Topic(), "sensors/pi/") {
			u.readings[reading.Seq] = true
			if u.first == "" {
				u.first = m.Topic() + " " + string(m.Payload())
			}
		}
	case strings.HasPrefix(m.Topic(), "load/"):
		number, _, _ := bytes.Cut(m.Payload(), []byte(" "))
		if n, err := strconv.Atoi(string(number)); err == nil {
			if u.load[m.Topic()] == nil {
				u.load[m.Topic()] = map[int]bool{}
			}
			if u.load[m.Topic()][n] {
				u.again++
			}
			u.load[m.Topic()][n] = true
		}
	}
	close(u.arrived)
	u.arrived = make(chan struct{})
}

// wait waits until what has arrived is enough.
func (u *upstream) wait(ctx context.Context, what string, enough func() bool) error {
	for {
		u.mu.Lock()
		ok, next := enough(), u.arrived
		u.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-next:
			time.Sleep(100 * time.Millisecond) // counting costs more than receiving
		case <-ctx.Done():
			u.mu.Lock()
			defer u.mu.Unlock()
			if enough() {
				return nil
			}
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}

// reading waits for one that is newer than all that have arrived, and returns the first of all.
func (u *upstream) reading(ctx context.Context) (string, error) {
	u.mu.Lock()
	before := len(u.readings)
	u.mu.Unlock()
	err := u.wait(ctx, "a reading on the upstream", func() bool { return len(u.readings) > before })
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.first, err
}

// gaps counts readings, and numbers between the first and the last that are missing.
func (u *upstream) gaps() (readings int, missing uint64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.readings) == 0 {
		return 0, 0
	}
	var all []uint64
	for seq := range u.readings {
		all = append(all, seq)
	}
	return len(all), slices.Max(all) - slices.Min(all) + 1 - uint64(len(all))
}

// all waits until every message that the gateway has acknowledged to the load is there.
func (u *upstream) all(ctx context.Context, l *load) (string, error) {
	var lost int
	err := u.wait(ctx, "every acknowledged message on the upstream", func() bool {
		lost = 0
		for topic, numbers := range l.acked() {
			for _, n := range numbers {
				if !u.load[topic][n] {
					lost++
				}
			}
		}
		return lost == 0
	})
	readings, missing := u.gaps()
	u.mu.Lock()
	again := u.again
	u.mu.Unlock()
	said := fmt.Sprintf("%d acknowledged, %d lost, %d twice; %d readings, %d missing", l.acknowledged(), lost, again, readings, missing)
	if err == nil && missing > 0 {
		err = fmt.Errorf("readings are missing: %s", said)
	}
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return said, err
}
