package uplinks

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"strings"
	"time"

	"holdfast/broker"
	"holdfast/broker/client"
	"holdfast/broker/diagnose"
	"holdfast/broker/dial"
	"holdfast/broker/journal"
	"holdfast/broker/profile"
	"holdfast/gateway/config"
	"holdfast/gateway/control"
)

// dialer is how a bridge's upstreams are reached.
func dialer(c config.Bridge, log *slog.Logger) *dial.Dialer { return dialerWithin(0, c, log) }

// dialerWithin is that with a time of its own for a connection.
func dialerWithin(timeout time.Duration, c config.Bridge, log *slog.Logger) *dial.Dialer {
	return dial.New(dial.Options{
		TLS: c.TLS, Clock: journal.Now, Log: log.With("bridge", c.Name), Timeout: timeout,
		Proxy: dial.Proxy{URL: c.Proxy.URL, Username: c.Proxy.Username, Password: string(c.Proxy.Password), CA: c.Proxy.CA},
	})
}

// credentials are who the gateway says it is there.
func credentials(c config.Bridge) *dial.Credentials {
	k := &dial.Credentials{Username: c.Username, Password: string(c.Password), TokenFile: c.TokenFile, Clock: journal.Now}
	if c.SASKey != "" {
		k.SASKeyFile, k.SASResource = c.SASKey, profile.SASResource(c.Upstream[0].Address, c.ClientID)
	}
	return k
}

// Check reads the files that a bridge's way to its upstreams needs.
func Check(c config.Bridge) error {
	if err := dialer(c, slog.New(slog.DiscardHandler)).Check(); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	_, _, err := credentials(c).Get()
	return err
}

// TryOptions are what the configuration does not say about Try.
type TryOptions struct {
	ClientID string // instead of the bridge's, or of one made of it
	Timeout  time.Duration
	// Aside goes no further than to where MQTT begins where a service takes no client but the one that a running
	// gateway is: it would be pushed out.
	Aside bool
}

// Try goes the way to each upstream of a bridge, and reports whether all of them work.
func Try(ctx context.Context, cfg *config.Config, name string, opts TryOptions, address func(url string), report func(diagnose.Step)) (bool, error) {
	used, err := Identify(cfg)
	if err != nil && opts.ClientID == "" {
		return false, fmt.Errorf("%w; or give --client-id", err)
	}
	var names []string
	for _, c := range used.Bridges {
		if c.Name == name {
			return tryBridge(ctx, c, opts, control.Find(cfg.Control, cfg.DataDir).Absent(ctx), address, report)
		}
		names = append(names, c.Name)
	}
	if len(names) == 0 {
		return false, errors.New("the configuration has no bridges")
	}
	return false, fmt.Errorf("there is no bridge %q, want %s", name, strings.Join(names, " or "))
}

// tryBridge takes the bridge's own identifier if it is alone, that is, no gateway runs that would be pushed out.
func tryBridge(ctx context.Context, c config.Bridge, opts TryOptions, alone bool, address func(string), report func(diagnose.Step)) (bool, error) {
	p := diagnose.Options{
		Dialer: dialerWithin(opts.Timeout, c, slog.New(slog.DiscardHandler)), Credentials: credentials(c).Get, Timeout: opts.Timeout, Clock: journal.Now,
		ClientID: c.ClientID + "-test", V311: c.Protocol == config.V311,
	}
	if c.Profile != nil {
		p.Deaf = c.Profile.Deaf()
		if c.Profile.FixedClient() {
			p.ClientID, p.Keep, p.Reach = c.ClientID, true, opts.Aside && !alone
		}
	}
	switch {
	case opts.ClientID != "" || p.ClientID == c.ClientID:
	case !alone:
		p.Untried = fmt.Sprintf("the bridge's own identifier %s is not tried: a gateway that runs would be pushed out", c.ClientID)
	case len(c.In) > 0:
		p.Own, p.OwnExpiry = c.ClientID, uint32(min(c.SessionExpiry/time.Second, math.MaxUint32))
	default: // the bridge begins without a session too
		p.ClientID = c.ClientID
	}
	if opts.ClientID != "" {
		p.ClientID, p.Keep = opts.ClientID, opts.ClientID == c.ClientID
	}
	for _, r := range c.Out {
		topic, err := testTopic(c, r)
		if err != nil {
			return false, err
		}
		p.Topics = append(p.Topics, topic)
	}
	p.Topics = unique(p.Topics)
	for _, r := range c.In {
		p.In = append(p.In, client.Subscription{Filter: r.Filter, QoS: r.QoS, NoLocal: true, RetainAsPublished: true, RetainHandling: 2})
	}
	good := true
	for _, u := range c.Upstream {
		var err error
		if p.URL, err = url.Parse(u.URL); err != nil {
			return false, err
		}
		address(u.URL)
		good = diagnose.Run(ctx, p, report) && good
	}
	return good, ctx.Err()
}

// testTopic is one below what a rule sends to.
func testTopic(c config.Bridge, r config.Rule) (string, error) {
	local := r.Filter
	if i := strings.IndexAny(local, "+#"); i >= 0 {
		local = local[:i]
	}
	local = strings.TrimSuffix(local, "/") + "/"
	topic := strings.TrimPrefix(r.Prefix+strings.TrimPrefix(local, r.Strip)+"holdfast-test", "/")
	if c.Profile == nil {
		return topic, broker.CheckTopic(topic)
	}
	topic, _, err := c.Profile.Adapt(c.ClientID, topic, &broker.Message{}, false)
	return topic, err
}

func unique(list []string) (some []string) {
	seen := make(map[string]bool)
	for _, s := range list {
		if !seen[s] {
			some = append(some, s)
		}
		seen[s] = true
	}
	return some
}
