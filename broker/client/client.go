// Package client is what `holdfast pub` and `holdfast sub` talk to a broker with: any broker, over
// MQTT 5 or 3.1.1, TCP, TLS, WebSocket or a unix socket.
//
// It promises that a message that was published without an error has been acknowledged as its QoS
// demands, that messages are handed over in the order in which they came and acknowledged afterwards,
// and that what the broker says about a refusal reaches the caller.
//
// It keeps nothing on disk and does not reconnect: it is for looking and trying, not for a gateway.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	"holdfast/broker/dial"
	"holdfast/broker/wire"
)

// Options describe a connection.
type Options struct {
	URL *url.URL // of dial.ParseURL
	// Dial opens the connection below MQTT; dial.Dialer has one.
	Dial      func(context.Context, *url.URL) (net.Conn, error)
	V311      bool // MQTT 3.1.1 instead of 5
	ClientID  string
	Username  string // empty for none
	Password  []byte
	Keep      bool          // go on with a session that the broker has
	Expiry    uint32        // seconds that the broker keeps the session after the connection; MQTT 5
	KeepAlive time.Duration // whole seconds; 0 for none
	Timeout   time.Duration // of connecting, and of each answer
	// Receive is called for one message at a time, which is acknowledged when it has returned. False
	// means that no more are wanted: Enough tells when the last one has been acknowledged.
	Receive func(Message) bool
}

// Message is one to publish, or one that has come.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	ID      uint16 // packet identifier of one that has come
	Properties
}

// Properties are those of MQTT 5. 3.1.1 has none.
type Properties struct {
	Text            bool // the payload says that it is UTF-8
	Expires         bool
	Expiry          uint32 // seconds; only if Expires
	ContentType     string
	ResponseTopic   string
	Correlation     []byte
	User            []UserProperty
	SubscriptionIDs []int // of one that has come
}

// UserProperty is a pair of texts that the sender chose.
type UserProperty struct{ Name, Value string }

// Subscription is a topic filter and how its messages are wanted. All but the first two are of MQTT 5.
type Subscription struct {
	Filter            string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send retained messages, 1 only if the subscription is new, 2 do not
	ID                int  // 0 for none
}

// Client is a connection. Its methods are for one goroutine.
type Client interface {
	// Publish returns when the broker has taken the message. The error is a *Refusal if it said no.
	Publish(context.Context, Message) error
	// Subscribe returns a reason code for each subscription; from 0x80 on it was refused.
	Subscribe(context.Context, []Subscription) ([]wire.Code, error)
	Enough() <-chan struct{}
	// Lost is closed when the connection has ended by itself; then Err has the reason.
	Lost() <-chan struct{}
	Err() error
	// Close says goodbye and closes the connection.
	Close()
}

// Refusal is a broker's no.
type Refusal struct {
	What string // "connection", "publish"
	Code wire.Code
	Text string // what else the broker said; may be empty
}

func (r *Refusal) Error() string {
	s := fmt.Sprintf("%s refused: %v (0x%02x)", r.What, r.Code, byte(r.Code))
	if r.Text != "" {
		s += ": " + r.Text
	}
	return s
}

// Connect opens a connection.
func Connect(ctx context.Context, opts Options) (Client, error) {
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	var c Client
	var err error
	if opts.V311 {
		c, err = connect311(ctx, opts)
	} else {
		c, err = connect5(ctx, opts)
	}
	switch {
	case err == nil:
		return c, nil
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s: no answer within %v", dial.Redact(opts.URL.String()), opts.Timeout)
	}
	return nil, fmt.Errorf("%s: %w", dial.Redact(opts.URL.String()), err)
}

// ending is the end of a connection, which several goroutines may notice, and that of the messages that
// are wanted.
type ending struct {
	once sync.Once
	lost chan struct{}
	err  error

	full   bool // Receive wants no more; of the goroutine that calls it
	handed bool // it got the last message
	enough chan struct{}
}

func newEnding() ending { return ending{lost: make(chan struct{}), enough: make(chan struct{})} }

func (e *ending) end(err error) {
	e.once.Do(func() {
		e.err = err
		close(e.lost)
	})
}

func (e *ending) Lost() <-chan struct{} { return e.lost }

func (e *ending) Err() error { return e.err }

func (e *ending) Enough() <-chan struct{} { return e.enough }

// receive hands a message over, unless there have been enough. One that was not handed over must not be
// acknowledged: the broker keeps it for the session's next connection.
func (e *ending) receive(f func(Message) bool, m Message) {
	e.handed = f != nil && !e.full
	if e.handed {
		e.full = !f(m)
	}
}

// acknowledged is called when the message that was handed over has been acknowledged.
func (e *ending) acknowledged() {
	if e.full && e.handed {
		close(e.enough)
	}
}
