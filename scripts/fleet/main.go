// Command fleet checks the recipe in deploy/fleet: three NATS nodes with its configuration files, and a
// fleet of gateways with backlogs that drain into their replicated stream.
//
// It kills a node in the middle of the drain, starts it again, takes all nodes away and brings them
// back, and counts by sequence numbers what has arrived, and the attempts to connect in each second. It
// ends with an error if a message is lost, or if there were more attempts than the README there states.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// recipe is where the configuration files are, seen from the top of the repository.
const recipe = "deploy/fleet/"

func main() {
	log.SetFlags(log.Ltime)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if len(os.Args) > 1 && os.Args[1] == "node" {
		err = serveNode(ctx)
	} else {
		err = run(ctx)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	gateways := flag.Int("gateways", 20, "gateways of the fleet")
	backlog := flag.Int("backlog", 2000, "messages that wait in each of them")
	outage := flag.Duration("outage", 90*time.Second, "how long all nodes are away; 0 for not at all")
	flag.Parse()
	if *gateways < 1 || *backlog < 10 || *outage < 0 {
		return errors.New("want a gateway, 10 messages and no negative outage at least")
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "fleet")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	c, s, err := form(ctx, dir)
	if err != nil {
		return err
	}
	defer c.close()
	defer s.close()
	log.Printf("three nodes, and the stream %s with three replicas", s.name)

	f, err := newFleet(c, dir, *gateways)
	if err != nil {
		return err
	}
	defer f.close()
	if err := f.fill(*backlog); err != nil {
		return err
	}
	log.Printf("%d gateways with %d messages each", *gateways, *backlog)

	begun := time.Now()
	f.start()
	third := uint64(*gateways * *backlog / 3)
	if err := f.waitDepth(ctx, 2*third); err != nil {
		return err
	}
	leader, err := s.leader(ctx)
	if err != nil {
		return err
	}
	log.Printf("killing node %d, which leads the stream, with %d messages to go", leader+1, f.depth())
	c.nodes[leader].Kill()
	if err := f.waitDepth(ctx, third); err != nil {
		return err
	}
	log.Printf("starting node %d again, with %d messages to go", leader+1, f.depth())
	if err := c.nodes[leader].start(); err != nil {
		return err
	}
	if err := f.waitDepth(ctx, 0); err != nil {
		return err
	}
	log.Printf("drained in %v", time.Since(begun).Round(100*time.Millisecond))

	storm := storm{ok: true}
	if *outage > 0 {
		if storm, err = takeAllAway(ctx, c, f, *backlog/10, *outage); err != nil {
			return err
		}
	}
	f.close()

	count, err := s.count(ctx, *gateways, f.sent)
	if err != nil {
		return err
	}
	fmt.Println(count)
	disorder := c.sent.disorder()
	fmt.Printf("gateways sent %d out of order\n", disorder)
	if *outage > 0 {
		fmt.Println(storm)
	}
	if count.lost > 0 || disorder > 0 || !storm.ok {
		return errors.New("the fleet does not keep its promise")
	}
	return nil
}

// takeAllAway ends all nodes while more comes in, starts them again, and says how the gateways took it.
func takeAllAway(ctx context.Context, c *cluster, f *fleet, more int, outage time.Duration) (storm, error) {
	gateways := len(f.gateways)
	log.Printf("taking all nodes away for %v, while %d messages come in", outage, gateways*more)
	c.attempts.reset()
	for _, n := range c.nodes {
		n.Kill()
	}
	cut := time.Now()
	if err := f.fill(more); err != nil {
		return storm{}, err
	}
	select {
	case <-time.After(outage):
	case <-ctx.Done():
		return storm{}, ctx.Err()
	}
	for _, n := range c.nodes {
		if err := n.start(); err != nil {
			return storm{}, err
		}
	}
	back := time.Now()
	log.Print("all nodes are back")
	if err := f.waitDepth(ctx, 0); err != nil {
		return storm{}, err
	}
	log.Printf("drained %v after their return", time.Since(back).Round(100*time.Millisecond))
	return c.attempts.judge(cut, gateways), nil
}
