package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"holdfast/broker"
	"holdfast/broker/journal"
	"holdfast/broker/journal/simdisk"
	"holdfast/broker/outbox"
)

// printer is a sink that prints messages. Its connection never fails, and each message is answered by having been printed.
type printer struct{ printed chan<- uint64 }

func (p printer) Target() string                               { return "standard output" }
func (p printer) Connect(context.Context) (outbox.Conn, error) { return &printing{printer: p}, nil }
func (p printer) Ended(f *outbox.Flow, err error) outbox.Next  { return outbox.Next{} }
func (p printer) Release(seq uint64)                           { p.printed <- seq }

// printing is its connection.
type printing struct {
	outbox.Basic
	printer
	line string
	refs []uint64 // sent and not printed
	last uint64
}

func (c *printing) Room() (messages int, full bool) { return 10, false }

func (c *printing) Prepare(m *outbox.Message) (outbox.Prepared, error) {
	if len(m.Message.Payload) == 0 {
		return outbox.Prepared{}, errors.New("nothing to print")
	}
	c.line = fmt.Sprintf("%s: %s", m.Message.Topic, m.Message.Payload)
	return outbox.Prepared{Topic: m.Message.Topic, Size: len(m.Message.Payload)}, nil
}

func (c *printing) Send() (ref, end uint64) {
	fmt.Println(c.line)
	c.last++
	c.refs = append(c.refs, c.last)
	return c.last, c.Position()
}

func (c *printing) Flush(time.Time) (quiet time.Duration, err error) { return outbox.Forever, nil }

func (c *printing) Wait(u *outbox.Until) error {
	if len(c.refs) > 0 {
		for _, ref := range c.refs {
			c.Flow.Acknowledged(ref)
		}
		c.refs = c.refs[:0]
		return nil
	}
	select {
	case <-u.Stop:
	case <-u.More:
	case <-u.Clock:
	}
	return nil
}

func (c *printing) Close() {}

type committed chan error

func (c committed) Committed(_ *journal.Entry, _ uint64, err error) { c <- err }

// A journal keeps messages for a reader, and an outbox sends them by a sink until each is acknowledged or refused.
func Example() {
	j, err := journal.Open(journal.Options{FS: simdisk.New()})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer j.Close()
	reader, err := j.OpenReader("bridge/printer")
	if err != nil {
		fmt.Println(err)
		return
	}
	durable := make(committed, 3)
	for _, payload := range []string{"21.5", "", "21.7"} {
		m := &broker.Message{Topic: "cellar/temperature", Payload: []byte(payload), QoS: 1}
		if err := j.Append(journal.Entry{Message: m, Owed: []journal.Owed{{Reader: reader, QoS: 1}}, Done: durable}); err != nil {
			fmt.Println(err)
		}
		<-durable
	}

	printed := make(chan uint64, 3)
	box, err := outbox.New(outbox.Options{
		Name: "printer", Reader: reader,
		Refused: func(d *journal.Delivery, reason string) error {
			fmt.Printf("%s: refused: %s\n", d.Message.Topic, reason)
			return nil
		},
	}, printer{printed})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- box.Run(ctx) }()
	for range 3 {
		<-printed
	}
	cancel()
	<-done
	st := box.Stats()
	fmt.Println(st.Acknowledged, "acknowledged,", st.Refused, "refused,", st.Depth, "left")
	// Output:
	// cellar/temperature: 21.5
	// cellar/temperature: refused: nothing to print
	// cellar/temperature: 21.7
	// 2 acknowledged, 1 refused, 0 left
}
