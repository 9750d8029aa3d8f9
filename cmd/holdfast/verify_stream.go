package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"holdfast/broker"
	"holdfast/broker/client"
	"holdfast/gateway/verify"
)

// lossesTopic is where gateways announce what they had to drop.
const lossesTopic = "holdfast/+/losses"

// verifying holds the flags of verify-stream.
type verifying struct {
	connection
	config         []string
	bridge         string
	losses, input  string
	level          int
	count, from    uint64
	duration       time.Duration
	asJSON, strict bool
}

func verifyStreamCommand() *cobra.Command {
	f := &verifying{}
	c := &cobra.Command{
		Use:   "verify-stream TOPIC",
		Short: "Prove from an upstream topic that all readings arrive",
		Long: `Verify-stream reads TOPIC, a filter such as sites/north/sensors/#, of an upstream broker and reports for each
device what is missing, came twice or came in disorder, by the number in each reading. What the gateways have
announced as lost, on ` + lossesTopic + `, is subtracted. It reads until Ctrl-C, until --for is over or until --count
readings have come; or --input, what mosquitto_sub -v or holdfast sub -v has written. TOPIC has to hold all readings
of a device: the number is the device's, not the topic's.

The exit code is 0 if nothing is missing that was not announced (--strict: nor came twice or in disorder), 1 if it is
or nothing came, 2 for a wrong command line, and 3 if --for is over before --count readings have come.

The upstream is that of the configuration (-c, and --bridge if it has several), or the one named by --url, or by --host
and --port. ` + passwordHelp,
		Example: `  holdfast verify-stream --url mqtt://broker.example --for 10m 'sites/+/sensors/#'
  holdfast verify-stream -c /etc/holdfast/holdfast.yaml --count 1000 'sites/north/sensors/#'
  mosquitto_sub -v -t 'sites/#' -t 'holdfast/+/losses' | holdfast verify-stream --input - 'sites/#'`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{fmt.Errorf("%s: got %d arguments, want one topic filter: see '%s --help'", c.CommandPath(), len(args), c.CommandPath())}
			}
			if err := broker.CheckFilter(args[0]); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	f.flags(c)
	passwordInArguments(c)
	fl := c.Flags()
	fl.StringArrayVarP(&f.config, "config", "c", nil, "configuration `FILE` whose bridge names the upstream")
	fl.StringVar(&f.bridge, "bridge", "", "`NAME` of the bridge, if there are several")
	fl.DurationVar(&f.duration, "for", 0, "end after so long")
	fl.Uint64Var(&f.count, "count", 0, "end after so many readings")
	fl.Uint64Var(&f.from, "from", 0, "the number that each device is to begin with; 0 takes the first one that comes")
	fl.StringVar(&f.input, "input", "", "`FILE` of lines with topic and payload, instead of a broker; - is stdin")
	fl.StringVar(&f.losses, "losses", lossesTopic, "topic `FILTER` of announcements")
	fl.IntVar(&f.level, "level", 0, "topic level, from 1 on, with the device's name; 0 takes .../sensors/DEVICE/SENSOR/QUANTITY")
	fl.BoolVar(&f.strict, "strict", false, "duplicates and disorder count as well")
	fl.BoolVar(&f.asJSON, "json", false, "the report as one JSON object")
	return c
}

var errIncomplete = errors.New("the stream is not complete")

func (f *verifying) run(c *cobra.Command, topic string) error {
	if err := broker.CheckFilter(f.losses); err != nil {
		return usageError{fmt.Errorf("--losses: %w", err)}
	}
	if f.level < 0 || f.duration < 0 {
		return usageError{errors.New("--level and --for: want 0 or more")}
	}
	checker := verify.New(f.level, f.from)
	var ended error
	if f.input != "" {
		in, err := f.open(c)
		if err != nil {
			return err
		}
		ended = f.read(in, topic, checker)
		in.Close()
	} else {
		var err error
		if ended, err = f.listen(c, topic, checker); err != nil {
			return err
		}
	}
	report := checker.Report()
	if err := f.print(c.OutOrStdout(), report); err != nil {
		return err
	}
	switch {
	case ended != nil:
		return ended
	case len(report.Devices) == 0:
		return errors.New("no reading has come: nothing is proved")
	case !report.Complete():
		return errIncomplete
	case f.strict && slices.ContainsFunc(report.Devices, func(d verify.Device) bool { return d.Duplicates+d.Disorder > 0 }):
		return errors.New("readings came twice or in disorder")
	}
	return nil
}

func (f *verifying) open(c *cobra.Command) (io.ReadCloser, error) {
	if f.input == "-" {
		return io.NopCloser(c.InOrStdin()), nil
	}
	file, err := os.Open(f.input)
	if err != nil {
		return nil, usageError{fmt.Errorf("--input: %w", err)}
	}
	return file, nil
}

// read takes lines of "topic payload", or JSON objects with topic and payload.
func (f *verifying) read(in io.Reader, topic string, checker *verify.Checker) error {
	const longest = 1 << 20
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), longest)
	var readings uint64
	n := 0
	for lines.Scan() && (f.count == 0 || readings < f.count) {
		n++
		line := lines.Text()
		name, payload, ok := strings.Cut(line, " ")
		if strings.HasPrefix(line, "{") {
			name, payload, ok = jsonLine(line)
		}
		if !ok || name == "" {
			return fmt.Errorf("--input: line %d: want a topic, a space and a payload, as mosquitto_sub -v writes them", n)
		}
		announcement := broker.Match(f.losses, name)
		if (announcement || broker.Match(topic, name)) && checker.Message(name, []byte(payload)) && !announcement {
			readings++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("--input: line %d: %w", n+1, err)
	}
	if f.count > readings {
		return errTimeout
	}
	return nil
}

// jsonLine takes a line of mosquitto_sub -F %j or holdfast sub --format json apart.
func jsonLine(line string) (topic, payload string, ok bool) {
	var m struct {
		Topic   string          `json:"topic"`
		Payload json.RawMessage `json:"payload"`
	}
	if json.Unmarshal([]byte(line), &m) != nil || m.Topic == "" {
		return "", "", false
	}
	if text := ""; json.Unmarshal(m.Payload, &text) == nil {
		return m.Topic, text, true
	}
	return m.Topic, string(m.Payload), true
}

// upstream fills in from the configuration what the command line leaves out.
func (f *verifying) upstream(c *cobra.Command) error {
	if len(f.config) == 0 || c.Flags().Changed("url") || c.Flags().Changed("host") {
		return nil
	}
	cfg, err := load(f.config)
	if err != nil {
		return usageError{err}
	}
	var names []string
	for _, b := range cfg.Bridges {
		names = append(names, b.Name)
		if b.Name != f.bridge && (f.bridge != "" || len(cfg.Bridges) > 1) {
			continue
		}
		if err := c.Flags().Set("url", b.Upstream[0].URL); err != nil {
			return err
		}
		if !c.Flags().Changed("user") {
			if f.user = b.Username; b.Password != "" {
				f.secret = []byte(b.Password)
			}
		}
		return nil
	}
	return usageError{fmt.Errorf("name the bridge whose upstream is read with --bridge: there are %q", names)}
}

// listen reads from a broker. ended is why it did before it should have.
func (f *verifying) listen(c *cobra.Command, topic string, checker *verify.Checker) (ended, err error) {
	if err := f.upstream(c); err != nil {
		return nil, err
	}
	opts, err := f.options(c)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex // a message may still be on its way when the end has come
	var stopped bool
	var readings uint64
	opts.Receive = func(m client.Message) (more bool) {
		mu.Lock()
		defer mu.Unlock()
		if stopped {
			return false
		}
		if checker.Message(m.Topic, m.Payload) && !broker.Match(f.losses, m.Topic) {
			readings++
		}
		return f.count == 0 || readings < f.count
	}
	ctx := c.Context()
	cl, err := client.Connect(ctx, opts)
	if err != nil {
		return nil, err
	}
	subs := []client.Subscription{{Filter: f.losses, QoS: 1}, {Filter: topic, QoS: 1}}
	codes, err := cl.Subscribe(ctx, subs)
	if err == nil {
		err = report(c.ErrOrStderr(), subs, codes)
	}
	if err != nil {
		cl.Close()
		return nil, because(ctx, cl, err)
	}
	var over <-chan time.Time
	if f.duration > 0 {
		over = time.After(f.duration)
	}
	select {
	case <-cl.Enough():
	case <-ctx.Done():
	case <-cl.Lost():
		ended = fmt.Errorf("the connection is lost, and nothing is known of what came later: %w", cl.Err())
	case <-over:
		if f.count > 0 {
			ended = errTimeout
		}
	}
	mu.Lock()
	stopped = true
	mu.Unlock()
	cl.Close()
	return ended, nil
}

func (f *verifying) print(out io.Writer, r *verify.Report) error {
	if f.asJSON {
		return json.NewEncoder(out).Encode(r)
	}
	w := table(out)
	fmt.Fprintln(w, "DEVICE\tFROM\tTO\tRECEIVED\tTWICE\tDISORDER\tMISSING\tANNOUNCED\tUNACCOUNTED")
	for _, d := range r.Devices {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", shown(d.Device), d.First, d.Last, d.Received, d.Duplicates, d.Disorder, d.Missing, d.Announced, d.Unaccounted)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, d := range r.Devices {
		for _, reason := range slices.Sorted(maps.Keys(d.Reasons)) {
			fmt.Fprintf(out, "%s: %s lost: %s\n", shown(d.Device), plural(d.Reasons[reason], "reading was announced as", "readings were announced as"), shown(reason))
		}
		for _, g := range d.Restarts {
			fmt.Fprintf(out, "%s: an unknown number of readings is lost from %d on, and they go on at %d: the gateway's data went back in time or was lost\n", shown(d.Device), g.First, g.Last+1)
		}
		if d.Reused > 0 {
			fmt.Fprintf(out, "%s: %s a number that came before: the gateway's data went back in time, and what is missing there is not known\n", shown(d.Device),
				plural(d.Reused, "new reading has", "new readings have"))
		}
		if d.Unknown > 0 {
			fmt.Fprintf(out, "%s: %s: readings may be among them\n", shown(d.Device), unknownNumber(""))
		}
		if d.Unnumbered > 0 {
			fmt.Fprintf(out, "%s: %s lost without numbers, such as damage: readings may be among them\n", shown(d.Device),
				plural(d.Unnumbered, "message was announced as", "messages were announced as"))
		}
		for i, g := range d.Ranges {
			fmt.Fprintf(out, "%s: missing, and not announced: %d to %d\n", shown(d.Device), g.First, g.Last)
			if i == len(d.Ranges)-1 && d.Unaccounted > total(d.Ranges) {
				fmt.Fprintf(out, "%s: and %d more\n", shown(d.Device), d.Unaccounted-total(d.Ranges))
			}
		}
	}
	if r.Beyond > 0 {
		fmt.Fprintf(out, "the report is not whole: %s too many to be followed\n", plural(r.Beyond, "message was", "messages were"))
	}
	return nil
}

// shown is a name from the network, written so that no terminal is harmed.
func shown(s string) string { return show([]byte(s)) }

func total(ranges []verify.Range) (n uint64) {
	for _, r := range ranges {
		n += r.Last - r.First + 1
	}
	return n
}
