package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"holdfast/broker/wire"
)

type client311 struct {
	ending
	paho    mqtt.Client
	timeout time.Duration
}

func connect311(ctx context.Context, opts Options) (Client, error) {
	c := &client311{ending: newEnding(), timeout: opts.Timeout}
	var dialed error
	established := func() bool { return true }
	o := mqtt.NewClientOptions().AddBroker(opts.URL.String()).SetProtocolVersion(4).
		SetClientID(opts.ClientID).SetCleanSession(!opts.Keep).SetUsername(opts.Username).SetPassword(string(opts.Password)).
		SetKeepAlive(opts.KeepAlive).SetPingTimeout(opts.Timeout).SetConnectTimeout(2 * opts.Timeout).
		SetAutoReconnect(false).SetConnectRetry(false).SetResumeSubs(false).SetOrderMatters(true).SetAutoAckDisabled(true).
		SetConnectionLostHandler(func(_ mqtt.Client, err error) { c.end(fmt.Errorf("connection lost: %w", err)) }).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			c.receive(opts.Receive, Message{Topic: m.Topic(), Payload: m.Payload(), QoS: m.Qos(), Retain: m.Retained(), ID: m.MessageID()})
			if c.handed {
				m.Ack()
				c.acknowledged()
			}
		}).
		SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) {
			var nc net.Conn
			if nc, dialed = opts.Dial(ctx, opts.URL); dialed == nil {
				established = context.AfterFunc(ctx, func() { nc.Close() })
			}
			return nc, dialed
		})
	c.paho = mqtt.NewClient(o)
	token := c.paho.Connect().(*mqtt.ConnectToken)
	switch err := wait(ctx, token); {
	case ctx.Err() != nil:
		return nil, ctx.Err() // the connection is closed
	case err == nil:
		established()
		return c, nil
	case dialed != nil:
		return nil, dialed
	case token.ReturnCode() > 0 && int(token.ReturnCode()) < len(returnCodes):
		return nil, &Refusal{What: "connection", Code: returnCodes[token.ReturnCode()]}
	default:
		return nil, err
	}
}

// returnCodes are the reason codes nearest to the return codes of a CONNACK (3.1.1 section 3.2.2.3).
var returnCodes = [...]wire.Code{
	wire.Success, wire.UnsupportedVersion, wire.ClientIDNotValid, wire.ServerUnavailable, wire.BadUserNameOrPassword, wire.NotAuthorized,
}

// wait waits for an answer.
func wait(ctx context.Context, token mqtt.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *client311) wait(ctx context.Context, what string, token mqtt.Token) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := wait(ctx, token)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: no acknowledgement in time", what)
	}
	return err
}

func (c *client311) Publish(ctx context.Context, m Message) error {
	return c.wait(ctx, "publish to "+m.Topic, c.paho.Publish(m.Topic, m.QoS, m.Retain, m.Payload))
}

func (c *client311) Subscribe(ctx context.Context, subs []Subscription) ([]wire.Code, error) {
	var codes []wire.Code
	for _, s := range subs {
		token := c.paho.Subscribe(s.Filter, s.QoS, nil).(*mqtt.SubscribeToken)
		err := c.wait(ctx, "subscribe to "+s.Filter, token)
		code, answered := token.Result()[s.Filter]
		if !answered {
			return nil, fmt.Errorf("subscribe to %s: %w", s.Filter, err)
		}
		codes = append(codes, wire.Code(code))
	}
	return codes, nil
}

// goodbye is how many milliseconds a DISCONNECT and what comes before it may take.
const goodbye = 1000

func (c *client311) Close() { c.paho.Disconnect(goodbye) }
