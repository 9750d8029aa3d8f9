// Command broker puts three brokers under the same load in one run: Holdfast's, Mosquitto and the
// MQTT listener of nats-server. Each is a process of its own, fresh for each row, so that its CPU time
// and memory are the kernel's figures.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"holdfast/scripts/child"
)

type scenario struct {
	name        string
	qos         byte
	publishers  int
	subscribers int
	durable     bool // the subscriber's session is persistent
}

var scenarios = []scenario{
	{"QoS 0, 1 publisher", 0, 1, 1, false},
	{"QoS 0, 20 publishers", 0, 20, 1, false},
	{"QoS 1, 1 publisher", 1, 1, 1, false},
	{"QoS 1, 20 publishers", 1, 20, 1, false},
	{"QoS 1, 1 publisher, durable", 1, 1, 1, true},
	{"QoS 1, 20 publishers, durable", 1, 20, 1, true},
	{"QoS 0, fan-out 1 to 50", 0, 1, 50, false},
}

func main() {
	if len(os.Args) == 5 && os.Args[1] == "serve" {
		if err := serve(os.Args[2], os.Args[3], os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	quick := flag.Bool("quick", false, "one short round, below two minutes in all")
	only := flag.String("only", "", "rows whose name contains this")
	brokers := flag.String("brokers", strings.Join(kinds, ","), "which brokers")
	burst := flag.Int("burst", 16, "messages in one write of a publisher")
	seconds := flag.Duration("for", 0, "time of one measurement")
	profile := flag.String("profile", "", "directory for CPU profiles of Holdfast's broker")
	flag.Parse()
	rounds, d, idle := 3, 5*time.Second, []int{1000, 10000}
	if *quick {
		rounds, d = 1, 1500*time.Millisecond
	}
	if *seconds > 0 {
		d = *seconds
	}
	if err := run(strings.Split(*brokers, ","), *only, rounds, *burst, d, idle, *profile); err != nil {
		fmt.Fprintln(os.Stderr, "bench-broker:", err)
		os.Exit(1)
	}
}

func run(brokers []string, only string, rounds, burst int, d time.Duration, idle []int, profile string) error {
	if _, err := child.Find("mosquitto"); err != nil {
		return err
	}
	fmt.Printf("256-byte messages, %d in one write, MQTT 3.1.1, %d round(s) of %v, best of each; CPU is the broker's\n\n", burst, rounds, d)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\tbroker\tmessages/s\tµs CPU a delivery\tp50, p99 ms\tlost\tdisordered")
	var verdicts []string
	for _, s := range scenarios {
		if !strings.Contains(s.name, only) {
			continue
		}
		best := map[string]result{}
		for range rounds {
			for _, kind := range brokers { // in turn, so that other load on the machine hits all of them
				r, err := measure(kind, s, burst, d, profile)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, kind, err)
				}
				b, ok := best[kind]
				if !ok {
					b = r
				}
				b.rate, b.cpu = max(b.rate, r.rate), min(b.cpu, r.cpu)
				b.p50, b.p99 = min(b.p50, r.p50), min(b.p99, r.p99)
				b.lost, b.disorder = max(b.lost, r.lost), max(b.disorder, r.disorder)
				best[kind] = b
			}
		}
		for i, kind := range brokers {
			r, name := best[kind], ""
			if i == 0 {
				name = s.name
			}
			fmt.Fprintf(w, "%s\t%s\t%.0f\t%.2f\t%.2f, %.2f\t%d\t%d\n", name, kind, r.rate, r.cpu, ms(r.p50), ms(r.p99), r.lost, r.disorder)
		}
		w.Flush()
		verdicts = append(verdicts, judge(s, best)...)
	}
	for _, n := range idle {
		name := fmt.Sprintf("%d idle connections", n)
		if !strings.Contains(name, only) {
			continue
		}
		for i, kind := range brokers {
			bytes, err := measureIdle(kind, n)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", name, kind, err)
			}
			if i > 0 {
				name = ""
			}
			fmt.Fprintf(w, "%s\t%s\t%.1f kB each\n", name, kind, float64(bytes)/1000)
			if kind == "holdfast" {
				verdicts = append(verdicts, verdict(fmt.Sprintf("memory of one of %d idle connections", n), float64(bytes)/1000, 8, true, "kB"))
			}
		}
		w.Flush()
	}
	fmt.Println("\nTargets, as ratios to Mosquitto in the same run:")
	for _, v := range verdicts {
		fmt.Println(" ", v)
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

func judge(s scenario, best map[string]result) (lines []string) {
	ours, ok := best["holdfast"]
	theirs, also := best["mosquitto"]
	if !ok || !also {
		return nil
	}
	cpu := 0.7
	if s.subscribers > 1 {
		cpu = 0.5
	}
	lines = append(lines,
		verdict(s.name+": CPU", ours.cpu/theirs.cpu, cpu, true, "x"),
		verdict(s.name+": throughput", ours.rate/theirs.rate, 1.3, false, "x"))
	if ours.lost+ours.disorder > 0 {
		lines = append(lines, fmt.Sprintf("MISSED  %s: %d lost, %d disordered", s.name, ours.lost, ours.disorder))
	}
	return lines
}

func verdict(what string, got, want float64, most bool, unit string) string {
	word, sign := "met   ", "<="
	if !most {
		sign = ">="
	}
	if most && got > want || !most && got < want {
		word = "MISSED"
	}
	return fmt.Sprintf("%s  %s: %.2f %s, target %s %.1f", word, what, got, unit, sign, want)
}
