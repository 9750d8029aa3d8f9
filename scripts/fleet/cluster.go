package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"holdfast/broker/faultnet"
	"holdfast/scripts/child"
)

const secret = "a-password-of-this-check"

// node is one nats-server process.
type node struct {
	env []string
	log *os.File

	*child.Process        // of the last start
	clients, mqtt  string // addresses
}

type cluster struct {
	nodes    []*node
	fronts   []*front // what gateways connect to, one before each node
	attempts *attempts
	sent     *sent
}

// serveNode is the process of a node, as `nats-server -c nats.conf` is elsewhere.
func serveNode(ctx context.Context) error {
	opts, err := server.ProcessConfigFile(recipe + "nats.conf")
	if err != nil {
		return err
	}
	opts.NoSigs = true
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

func newCluster(dir string) (*cluster, error) {
	c := &cluster{attempts: &attempts{}, sent: &sent{}}
	var routes, addresses []string
	for range 9 {
		address, err := faultnet.FreeAddress()
		if err != nil {
			return nil, err
		}
		addresses = append(addresses, address)
	}
	for i := range 3 {
		routes = append(routes, `"nats-route://`+addresses[3*i+1]+`"`)
	}
	for i := range 3 {
		n := &node{clients: addresses[3*i], mqtt: addresses[3*i+2]}
		var err error
		if n.log, err = os.Create(filepath.Join(dir, fmt.Sprintf("nats-%d.log", i+1))); err != nil {
			return nil, err
		}
		n.env = append(os.Environ(),
			fmt.Sprintf("NATS_NODE=nats-%d", i+1), "NATS_STORE="+filepath.Join(dir, fmt.Sprintf("nats-%d", i+1)),
			"NATS_CLIENTS="+n.clients, "NATS_CLUSTER="+addresses[3*i+1], "NATS_MQTT="+n.mqtt,
			"NATS_ROUTES=["+strings.Join(routes, ",")+"]",
			"NATS_GATEWAY_PASSWORD="+secret, "NATS_OPERATOR_PASSWORD="+secret)
		c.nodes = append(c.nodes, n)
		if err := n.start(); err != nil {
			return nil, err
		}
		f, err := newFront(n.mqtt, c.attempts, c.sent)
		if err != nil {
			return nil, err
		}
		c.fronts = append(c.fronts, f)
	}
	return c, nil
}

func (n *node) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "node")
	cmd.Env, cmd.Stdout, cmd.Stderr = n.env, n.log, n.log
	n.Process, err = child.Start(cmd)
	return err
}

// form starts nodes and makes the stream. Addresses that were free may be in use by the time a node wants them;
// then it tries others.
func form(ctx context.Context, dir string) (*cluster, *replicated, error) {
	for try := 1; ; try++ {
		dir := filepath.Join(dir, fmt.Sprint("cluster-", try))
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, nil, err
		}
		c, err := newCluster(dir)
		if err != nil {
			return nil, nil, err
		}
		s, err := c.stream(ctx)
		if err == nil {
			return c, s, nil
		}
		c.close()
		if s != nil && s.conn != nil {
			s.close()
		}
		if ctx.Err() != nil || try == 3 {
			return nil, nil, err
		}
		log.Printf("the nodes do not become a cluster; again with other addresses: %v", err)
	}
}

// ends returns an error with the last lines of the log if a node has ended by itself.
func (c *cluster) ends() error {
	for i, n := range c.nodes {
		select {
		case <-n.Ended:
			said, _ := os.ReadFile(n.log.Name())
			return fmt.Errorf("node %d has ended: %s", i+1, said[max(0, len(said)-500):])
		default:
		}
	}
	return nil
}

func (c *cluster) close() {
	for _, f := range c.fronts {
		f.close()
	}
	for _, n := range c.nodes {
		n.Kill()
		n.log.Close()
	}
}

// replicated is the stream that everything lands in.
type replicated struct {
	name string
	conn *nats.Conn
	js   jetstream.JetStream
}

// stream makes the stream of stream.json, as an operator does once, before the first gateway connects.
func (c *cluster) stream(ctx context.Context) (*replicated, error) {
	var urls []string
	for _, n := range c.nodes {
		urls = append(urls, "nats://"+n.clients)
	}
	text, err := os.ReadFile(recipe + "stream.json")
	if err != nil {
		return nil, err
	}
	var config jetstream.StreamConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return nil, fmt.Errorf("stream.json: %w", err)
	}
	s := &replicated{name: config.Name}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		err := s.create(ctx, strings.Join(urls, ","), config)
		if err == nil || ctx.Err() != nil {
			return s, err
		}
		if err := c.ends(); err != nil {
			return s, err
		}
		select { // the nodes are still electing a leader
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return s, errors.Join(ctx.Err(), err)
		}
	}
}

func (s *replicated) create(ctx context.Context, urls string, config jetstream.StreamConfig) (err error) {
	if s.conn == nil {
		if s.conn, err = nats.Connect(urls, nats.UserInfo("operator", secret), nats.MaxReconnects(-1), nats.ReconnectWait(time.Second)); err != nil {
			s.conn = nil
			return err
		}
		if s.js, err = jetstream.New(s.conn); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err = s.js.CreateOrUpdateStream(ctx, config)
	return err
}

// leader returns the index of the node that leads the stream.
func (s *replicated) leader(ctx context.Context) (int, error) {
	stream, err := s.js.Stream(ctx, s.name)
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscanf(stream.CachedInfo().Cluster.Leader, "nats-%d", &n)
	return n - 1, err
}

func (s *replicated) close() { s.conn.Close() }

// count is what became of the messages.
type count struct{ gateways, sent, arrived, lost, duplicates, disorder int }

func (c count) String() string {
	return fmt.Sprintf("%d gateways: sent %d, arrived %d, lost %d, duplicates %d, out of order %d", c.gateways, c.sent, c.arrived, c.lost, c.duplicates, c.disorder)
}

// count reads the whole stream.
func (s *replicated) count(ctx context.Context, gateways, sent int) (count, error) {
	c := count{gateways: gateways, sent: gateways * sent}
	var stream jetstream.Stream
	for { // a node that came back may still be electing
		var err error
		if stream, err = s.js.Stream(ctx, s.name); err == nil {
			break
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-ctx.Done():
			return c, err
		}
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return c, err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{FilterSubjects: []string{"$MQTT.msgs.sites.>"}})
	if err != nil {
		return c, err
	}
	messages, err := consumer.Messages()
	if err != nil {
		return c, err
	}
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	seen := make([][]bool, gateways)
	last := make([]int, gateways)
	for i := range seen {
		seen[i], last[i] = make([]bool, sent), -1
	}
	for n := uint64(0); n < info.State.Msgs; n++ {
		m, err := messages.Next()
		if err != nil {
			return c, err
		}
		var g, seq int
		if _, err := fmt.Sscanf(string(m.Data()), "%d %d", &g, &seq); err != nil || g >= gateways || seq >= sent {
			return c, fmt.Errorf("%s: %q is none of ours", m.Subject(), m.Data())
		}
		switch {
		case seen[g][seq]:
			c.duplicates++
			continue
		case seq < last[g]:
			c.disorder++
		}
		seen[g][seq], last[g] = true, seq
		c.arrived++
	}
	c.lost = c.sent - c.arrived
	return c, nil
}
