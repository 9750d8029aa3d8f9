package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"holdfast/broker"
	"holdfast/broker/client"
	"holdfast/broker/wire"
)

// errTimeout is what -W ends with if -C messages have not come: exit code 3.
var errTimeout = errors.New("the time is over and fewer messages than wanted have come")

// subscribing holds the flags of sub.
type subscribing struct {
	connection
	filters                  []string
	format                   string
	verbose                  bool
	qos, retainHandling      uint8
	count                    uint
	wait                     seconds
	retainedOnly, noRetained bool
	noLocal, retainPublished bool
	subscriptionID           int

	hasV5 bool // whether there is a flag that 3.1.1 has no place for
}

func subCommand() *cobra.Command {
	f := &subscribing{}
	c := &cobra.Command{
		Use:   "sub -t FILTER",
		Short: "Show messages of any MQTT broker",
		Long: `Sub subscribes and prints what comes, one message a line, until Ctrl-C, until --count messages have come or
until --wait is over. A filter that the broker refuses is reported; if it refuses all, that is an error.

A format is text, json, hex, or a template:
` + client.FormatHelp + `

The exit code is 0 for an end that was asked for, 1 for a failure, such as a lost connection, 2 for a wrong
command line, and 3 if --wait is over before --count messages have come.

` + connectionHelp,
		Example: `  holdfast sub -t 'sensors/#' -v
  holdfast sub -t 'sensors/+/+/temperature' --format '%I %t %p'
  holdfast sub -t '#' --retained-only -v -W 2
  holdfast sub -t reply/1 -C 1 -W 5 || echo no answer
  holdfast sub -h broker.example --ca ca.crt -t '#' --format json`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.flags(c)
	passwordInArguments(c)
	fl := c.Flags()
	fl.StringArrayVarP(&f.filters, "topic", "t", nil, "topic `FILTER`; may be given several times")
	fl.Uint8VarP(&f.qos, "qos", "q", 0, "highest quality of service: 0, 1 or 2")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "print the topic in front of each message")
	fl.StringVarP(&f.format, "format", "F", "text", "how to print a message: text, json, hex or a `TEMPLATE`")
	fl.UintVarP(&f.count, "count", "C", 0, "end after so many messages")
	fl.VarP(&f.wait, "wait", "W", "end after so long")
	fl.BoolVar(&f.retainedOnly, "retained-only", false, "show retained messages alone, and end with the first one that is new")
	fl.BoolVarP(&f.noRetained, "no-retained", "R", false, "do not show retained messages")
	fl.BoolVarP(&f.keep, "keep-session", "c", false, "go on with the session of --id: messages that came meanwhile")
	fl.DurationVarP(&f.expiry, "session-expiry", "x", 0, "how long the broker is to keep the session (MQTT 5, as all below)")
	fl.BoolVar(&f.noLocal, "no-local", false, "leave out messages of this client itself")
	fl.BoolVar(&f.retainPublished, "retain-as-published", false, "show the retain flag that the publisher set")
	fl.Uint8Var(&f.retainHandling, "retain-handling", 0, "retained messages: 0 always, 1 for a new subscription, 2 never")
	fl.IntVar(&f.subscriptionID, "subscription-id", 0, "number that comes with each message")
	return c
}

func (f *subscribing) run(c *cobra.Command) error {
	format, err := f.check(c)
	if err != nil {
		return usageError{err}
	}
	opts, err := f.options(c)
	if err != nil {
		return err
	}
	if f.hasV5 && opts.V311 {
		return usageError{errors.New("--session-expiry, --no-local, --retain-as-published, --retain-handling and --subscription-id are of MQTT 5")}
	}
	out := c.OutOrStdout()
	if _, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS); err != nil { // a program gets payloads byte for byte
		out = raw(out)
	}
	p := &printer{f: f, format: format, out: out}
	opts.Receive = p.receive
	ctx := c.Context()
	cl, err := client.Connect(ctx, opts)
	if err != nil {
		return err
	}
	defer cl.Close()
	var over <-chan time.Time
	if f.wait > 0 {
		over = time.After(time.Duration(f.wait))
	}
	var subs []client.Subscription
	for _, filter := range f.filters {
		subs = append(subs, client.Subscription{
			Filter: filter, QoS: f.qos, NoLocal: f.noLocal, RetainAsPublished: f.retainPublished,
			RetainHandling: f.retainHandling, ID: f.subscriptionID,
		})
	}
	codes, err := cl.Subscribe(ctx, subs)
	if err != nil {
		return because(ctx, cl, err)
	}
	if err := report(c.ErrOrStderr(), subs, codes); err != nil {
		return err
	}
	select {
	case <-cl.Enough():
		return p.failure()
	case <-ctx.Done():
		return nil
	case <-cl.Lost():
		return cl.Err()
	case <-over:
		if f.count > 0 {
			return errTimeout
		}
		return nil
	}
}

// report tells which filters were refused. If all were there is nothing to wait for.
func report(w io.Writer, subs []client.Subscription, codes []wire.Code) error {
	var refused error
	n := 0
	for i, code := range codes {
		if code < 0x80 {
			continue
		}
		n++
		refused = errors.Join(refused, &client.Refusal{What: "subscription to " + subs[i].Filter, Code: code})
	}
	if n == len(codes) {
		return refused
	}
	if refused != nil {
		fmt.Fprintln(w, refused)
	}
	return nil
}

func (f *subscribing) check(c *cobra.Command) (client.Format, error) {
	switch {
	case len(f.filters) == 0:
		return nil, errors.New("give a topic filter: -t FILTER")
	case f.qos > 2:
		return nil, fmt.Errorf("--qos %d: want 0, 1 or 2", f.qos)
	case f.retainHandling > 2:
		return nil, fmt.Errorf("--retain-handling %d: want 0, 1 or 2", f.retainHandling)
	case f.subscriptionID < 0 || f.subscriptionID > wire.MaxSize:
		return nil, fmt.Errorf("--subscription-id %d: want 1 to %d", f.subscriptionID, wire.MaxSize)
	case f.retainedOnly && f.noRetained:
		return nil, errors.New("--retained-only and --no-retained leave nothing")
	case f.verbose && f.format != "text" && f.format != "hex":
		return nil, errors.New("--verbose is for text and hex: json has the topic, and a template takes %t")
	}
	for _, filter := range f.filters {
		if err := broker.CheckFilter(filter); err != nil {
			return nil, fmt.Errorf("--topic: %w", err)
		}
	}
	for _, name := range []string{"session-expiry", "no-local", "retain-as-published", "retain-handling", "subscription-id"} {
		f.hasV5 = f.hasV5 || c.Flags().Changed(name)
	}
	format := f.format
	if f.verbose {
		format = map[string]string{"text": "%t %p", "hex": "%t %x"}[format]
	}
	return client.ParseFormat(format)
}

// printer prints messages until there have been enough.
type printer struct {
	f      *subscribing
	format client.Format
	out    io.Writer
	seen   uint

	mu  sync.Mutex
	err error
}

func (p *printer) receive(m client.Message) (more bool) {
	switch {
	case p.f.retainedOnly && !m.Retain:
		return false
	case p.f.noRetained && m.Retain:
		return true
	}
	if err := p.format(p.out, &m, time.Now()); err != nil {
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		return false
	}
	p.seen++
	return p.f.count == 0 || p.seen < p.f.count
}

func (p *printer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
