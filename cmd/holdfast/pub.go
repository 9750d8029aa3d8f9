package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"holdfast/broker"
	"holdfast/broker/client"
)

// publishing holds the flags of pub.
type publishing struct {
	connection
	topic, message, file               string
	lines, empty                       bool
	repeat                             int
	delay, messageExpiry               seconds
	qos                                uint8
	retain, text                       bool
	contentType, response, correlation string
	userProperties                     []string

	template    client.Message // without payload
	hasProperty bool
}

func pubCommand() *cobra.Command {
	f := &publishing{}
	c := &cobra.Command{
		Use:   "pub -t TOPIC (-m TEXT | -f FILE | -l | -n)",
		Short: "Publish messages to any MQTT broker",
		Long: `Pub publishes and ends when the broker has acknowledged what the QoS demands. What the broker refuses is an
error with its reason.

` + connectionHelp,
		Example: `  holdfast pub -t greenhouse/fan/set -m on -q 1
  echo '{"value":21}' | holdfast pub -t test -f -
  seq 100 | holdfast pub -t test -l -q 1
  holdfast pub -t old/topic -n -r                        # remove a retained message
  holdfast pub --url mqtts://broker.example -u anna --password-file pw -t a -m b`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.flags(c)
	passwordInArguments(c)
	fl := c.Flags()
	fl.StringVarP(&f.topic, "topic", "t", "", "`TOPIC` to publish to")
	fl.StringVarP(&f.message, "message", "m", "", "`TEXT` to publish")
	fl.StringVarP(&f.file, "file", "f", "", "publish the content of a `FILE`; - reads stdin to its end")
	fl.BoolVarP(&f.lines, "lines", "l", false, "publish each line of stdin as a message")
	fl.BoolVarP(&f.empty, "null", "n", false, "publish an empty message")
	fl.IntVar(&f.repeat, "repeat", 1, "publish the message `N` times")
	fl.Var(&f.delay, "repeat-delay", "wait so long between them")
	fl.Uint8VarP(&f.qos, "qos", "q", 0, "quality of service: 0, 1 or 2")
	fl.BoolVarP(&f.retain, "retain", "r", false, "have the broker keep the message for later subscribers")
	fl.Var(&f.messageExpiry, "expiry", "have the broker drop the message when it has waited so long (MQTT 5, as all below)")
	fl.StringVar(&f.contentType, "content-type", "", "`TEXT` that names the kind of payload")
	fl.StringVar(&f.response, "response-topic", "", "`TOPIC` that an answer is expected at")
	fl.StringVar(&f.correlation, "correlation", "", "`TEXT` that an answer repeats")
	fl.StringArrayVar(&f.userProperties, "user-property", nil, "`NAME=VALUE` to go with the message; may be given several times")
	fl.BoolVar(&f.text, "utf8", false, "mark the payload as UTF-8")
	return c
}

func (f *publishing) run(c *cobra.Command) error {
	source, err := f.check(c)
	if err != nil {
		return usageError{err}
	}
	opts, err := f.options(c)
	if err != nil {
		return err
	}
	if f.hasProperty && opts.V311 {
		return usageError{errors.New("MQTT 3.1.1 has no properties: leave them out, or use --protocol 5")}
	}
	ctx := c.Context()
	cl, err := client.Connect(ctx, opts)
	if err != nil {
		return err
	}
	defer cl.Close()
	return source(func(payload []byte) error {
		m := f.template
		m.Payload = payload
		return because(ctx, cl, cl.Publish(ctx, m))
	})
}

// because prefers the reason that a connection ended for over what came of it.
func because(ctx context.Context, cl client.Client, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	select {
	case <-cl.Lost():
		return cl.Err()
	default:
		return err
	}
}

// check returns where the messages come from.
func (f *publishing) check(c *cobra.Command) (source func(send func([]byte) error) error, err error) {
	set := func(names ...string) (n int) {
		for _, name := range names {
			if c.Flags().Changed(name) {
				n++
			}
		}
		return n
	}
	switch {
	case f.topic == "":
		return nil, errors.New("give a topic: -t TOPIC")
	case set("message", "file", "lines", "null") != 1:
		return nil, errors.New("give one of -m TEXT, -f FILE, -l (lines of stdin) and -n (empty)")
	case f.qos > 2:
		return nil, fmt.Errorf("--qos %d: want 0, 1 or 2", f.qos)
	case f.repeat < 1:
		return nil, fmt.Errorf("--repeat %d: want at least 1", f.repeat)
	case f.lines && set("repeat", "repeat-delay") > 0:
		return nil, errors.New("--lines takes what stdin has, and does not repeat")
	}
	if err := broker.CheckTopic(f.topic); err != nil {
		return nil, fmt.Errorf("--topic: %w", err)
	}
	f.hasProperty = set("expiry", "content-type", "response-topic", "correlation", "user-property", "utf8") > 0
	m := client.Message{Topic: f.topic, QoS: f.qos, Retain: f.retain, Properties: client.Properties{
		Text: f.text, Expires: set("expiry") > 0, Expiry: uint32(time.Duration(f.messageExpiry) / time.Second),
		ContentType: f.contentType, ResponseTopic: f.response, Correlation: []byte(f.correlation),
	}}
	for _, p := range f.userProperties {
		name, value, found := strings.Cut(p, "=")
		if !found {
			return nil, fmt.Errorf("--user-property %q: want NAME=VALUE", p)
		}
		m.User = append(m.User, client.UserProperty{Name: name, Value: value})
	}
	f.template = m
	if f.lines {
		return func(send func([]byte) error) error { return eachLine(os.Stdin, send) }, nil
	}
	payload := []byte(f.message)
	if f.file != "" {
		if payload, err = readInput(f.file); err != nil {
			return nil, fmt.Errorf("--file: %w", err)
		}
	}
	return func(send func([]byte) error) error { return f.repeated(c.Context(), payload, send) }, nil
}

func (f *publishing) repeated(ctx context.Context, payload []byte, send func([]byte) error) error {
	for i := range f.repeat {
		if i > 0 && f.delay > 0 {
			select {
			case <-time.After(time.Duration(f.delay)):
			case <-ctx.Done():
				return errors.New("interrupted")
			}
		}
		if err := send(payload); err != nil {
			return err
		}
	}
	return nil
}

// eachLine sends lines as they come, without their ends. The last one need not have an end.
func eachLine(r io.Reader, send func([]byte) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxInput)
	lines.Split(func(data []byte, end bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return i + 1, data[:i], nil
		}
		if end && len(data) > 0 {
			return len(data), data, nil
		}
		return 0, nil, nil
	})
	for lines.Scan() {
		if err := send(bytes.Clone(lines.Bytes())); err != nil {
			return err
		}
	}
	return lines.Err()
}
