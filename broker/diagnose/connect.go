package diagnose

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"holdfast/broker/client"
	"holdfast/broker/dial"
	"holdfast/broker/wire"
)

func (r *run) connect(ctx context.Context, nc net.Conn) bool {
	username, password, err := r.Credentials()
	if err != nil {
		nc.Close()
		r.fail("connect", err, "correct the file")
		return false
	}
	opts := client.Options{
		URL: r.URL, ClientID: r.ClientID, Keep: r.Keep, Username: username, KeepAlive: time.Minute, Timeout: r.Timeout, V311: r.V311,
		Dial: func(ctx context.Context, u *url.URL) (net.Conn, error) {
			if nc == nil { // a second attempt
				return r.Dialer.Dial(ctx, u)
			}
			first := nc
			nc = nil
			return first, nil
		},
		Receive: func(m client.Message) bool {
			if strings.Contains(string(m.Payload), r.id) { // not what others publish
				select {
				case r.back <- m.Topic:
				default:
				}
			}
			return true
		},
	}
	if username != "" {
		opts.Password = []byte(password)
	}
	as := ""
	if username != "" {
		as = ", user " + username
	}
	if r.Own != "" {
		own := opts
		own.ClientID, own.Keep, own.Expiry, own.Receive = r.Own, true, r.OwnExpiry, nil // without Receive nothing is acknowledged
		c, err := r.login(ctx, &own)
		if err == nil {
			c.Close()
			r.V311, opts.V311 = own.V311, own.V311
			r.tell("connect", OK, fmt.Sprintf("accepted, %s, client %s%s; only connecting is tried with it: the upstream keeps a session for it, with messages", r.version(), r.Own, as), "")
		} else {
			r.fail("connect", fmt.Errorf("client %s: %w", r.Own, r.bare(err)), connectRemedy(err))
		}
		as += "; whether the same is allowed to client " + r.Own + " is not tried"
	}
	c, err := r.login(ctx, &opts)
	if err != nil && r.Own != "" {
		r.tell("connect", Warning, fmt.Sprintf("client %s: %v", r.ClientID, r.bare(err)),
			"what may be read and written is not tried, since the broker does not take this identifier: give one that it takes with --client-id")
		return false
	}
	if err != nil {
		r.fail("connect", r.bare(err), connectRemedy(err))
		return false
	}
	r.V311, r.how, r.client = opts.V311, opts, c
	if r.Untried != "" {
		as += "; " + r.Untried
	}
	r.tell("connect", OK, fmt.Sprintf("accepted, %s, client %s%s", r.version(), r.ClientID, as), "")
	return true
}

// bare is an error without the URL, which stands above the steps.
func (r *run) bare(err error) error {
	return errors.New(strings.TrimPrefix(err.Error(), dial.Redact(r.URL.String())+": "))
}

// login connects with the newest version that both speak, and sets it in opts.
func (r *run) login(ctx context.Context, opts *client.Options) (client.Client, error) {
	var refusal *client.Refusal
	c, err := client.Connect(ctx, *opts)
	if err != nil && !opts.V311 && (!errors.As(err, &refusal) || refusal.Code == wire.UnsupportedVersion || refusal.Code == wire.ProtocolError) && ctx.Err() == nil {
		opts.V311 = true // what does not know MQTT 5 may say so, or just hang up
		if old, oldErr := client.Connect(ctx, *opts); oldErr == nil {
			c, err = old, nil
		} else if errors.As(oldErr, &refusal) {
			err = oldErr
		}
	}
	return c, err
}

// reopen connects again where the upstream has ended the connection at one rule, so that the others are tried too.
func (r *run) reopen(ctx context.Context) bool {
	r.client.Close()
	r.client = nil
	c, err := client.Connect(ctx, r.how)
	if err != nil {
		return false
	}
	for _, t := range r.heard {
		if _, err := c.Subscribe(ctx, []client.Subscription{{Filter: t, QoS: 1}}); err != nil {
			c.Close()
			return false
		}
	}
	r.client = c
	return true
}

func (r *run) version() string {
	if r.V311 {
		return "MQTT 3.1.1"
	}
	return "MQTT 5"
}
