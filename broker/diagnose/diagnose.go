// Package diagnose tries the way to an upstream step by step: name, TCP, proxy, TLS, WebSocket, CONNECT,
// subscribe, publish, round trip, clock. Each step has an outcome and, where it fails, a remedy.
//
// It promises to leave nothing behind: what it publishes is not retained and expires, and with Keep it does not
// touch the session of the client identifier that it uses. It shows no secret.
//
// It does not measure speed, and one good answer is no promise of the next.
package diagnose

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/broker/client"
	"holdfast/broker/dial"
	"holdfast/broker/wire"
)

// Options say what to try. All but V311, Keep, Reach, In and Deaf have to be set.
type Options struct {
	URL         *url.URL // of dial.ParseURL
	Dialer      *dial.Dialer
	Credentials func() (username, password string, err error)
	ClientID    string
	Untried     string                // what using ClientID leaves open, for the answer of "connect"; may be empty
	Keep        bool                  // go on with the session that ClientID may have
	Own         string                // another identifier, to which the upstream keeps a session: it only connects, and takes nothing out of that; may be empty
	OwnExpiry   uint32                // seconds that the session of Own lasts afterwards; MQTT 5
	Reach       bool                  // go no further than to where MQTT begins
	V311        bool                  // do not try MQTT 5
	Topics      []string              // to publish to
	In          []client.Subscription // what is to come from the upstream, as it is asked for
	Deaf        bool                  // the upstream is one that nothing can be read from
	Timeout     time.Duration
	Clock       func() (now time.Time, synced bool)
}

// Outcome is how a step went.
type Outcome string

// The outcomes of a step.
const (
	OK      Outcome = "ok"
	Warning Outcome = "warn" // works, and needs a look
	Failed  Outcome = "FAIL"
	Skipped Outcome = "-"
)

// Step is one step and its answer.
type Step struct {
	Name    string // "name", "tcp", "proxy", "tls", "websocket", "connect", "subscribe", "publish", "round trip", "clock"
	Outcome Outcome
	Answer  string
	Remedy  string // empty if there is nothing to do
}

// Names are those of all steps, in their order.
var Names = []string{"name", "tcp", "proxy", "tls", "websocket", "connect", "subscribe", "publish", "round trip", "clock"}

// run is one call of Run.
type run struct {
	Options
	report func(Step)
	failed bool
	id     string        // in the payload of what is published
	client client.Client // nil where it was lost and could not be opened again
	how    client.Options
	back   chan string // topics of what was published and came back
	heard  []string    // topics that are subscribed to
	missed int         // topics that were published to on connections that have ended, so that their way back is not known
	told   string      // the last step that was reported

	connected net.Addr
	proxied   string
	secured   *dial.State
	upgraded  bool
	dated     bool          // the upstream or the proxy has told the time
	offset    time.Duration // of this machine's clock to it
}

// Run reports each step as it is done, and returns whether all that is needed works. After a step that
// failed, those that need it are reported as skipped.
func Run(ctx context.Context, opts Options, report func(Step)) bool {
	r := &run{Options: opts, report: report}
	nc := r.reach(ctx)
	switch {
	case nc != nil && r.Reach:
		nc.Close()
	case nc != nil:
		r.mqtt(ctx, nc)
	}
	for _, name := range Names[slices.Index(Names, r.told)+1:] {
		if name != "clock" && r.applies(name) {
			r.tell(name, Skipped, "not tried", "")
		}
	}
	r.clock()
	return !r.failed
}

func (r *run) tell(name string, o Outcome, answer, remedy string) {
	r.told = name
	r.failed = r.failed || o == Failed
	r.report(Step{name, o, answer, remedy})
}

func (r *run) fail(name string, err error, remedy string) {
	r.tell(name, Failed, err.Error(), remedy)
}

// applies says whether there is such a step on this way.
func (r *run) applies(name string) bool {
	switch name {
	case "proxy":
		return r.Dialer.Through(r.URL) != ""
	case "tls":
		return dial.Secure(r.URL)
	case "websocket":
		return strings.HasPrefix(r.URL.Scheme, "ws")
	case "subscribe":
		return !r.Deaf || len(r.In) > 0
	case "publish":
		return len(r.Topics) > 0
	case "round trip":
		return !r.Deaf && len(r.Topics) > 0
	}
	return true
}

// reach goes up to where MQTT begins. It returns nil if that fails.
func (r *run) reach(ctx context.Context) net.Conn {
	host := r.URL.Hostname()
	if proxy := r.Dialer.Through(r.URL); proxy != "" {
		r.tell("name", OK, host+": left to the proxy", "")
	} else if _, err := netip.ParseAddr(host); err == nil {
		r.tell("name", OK, host+": an address", "")
	} else if !r.resolve(ctx, host) {
		return nil
	}
	begun := time.Now()
	nc, err := r.Dialer.Dial(dial.WithTrace(ctx, &dial.Trace{
		Connected: func(a net.Addr) {
			r.connected = a
			r.tell("tcp", OK, fmt.Sprintf("%v, in %v", a, time.Since(begun).Round(time.Millisecond)), "")
		},
		Proxied: func(proxy, date string) {
			r.proxied = proxy
			r.dateIs(date)
			r.tell("proxy", OK, proxy+" has connected", "")
		},
		Secured: func(s dial.State) {
			r.secured = &s
			r.certificate(s)
		},
		Upgraded: func(date string) {
			r.upgraded = true
			r.dateIs(date)
			r.tell("websocket", OK, "upgraded", "")
		},
	}), r.URL)
	switch {
	case err == nil:
		return nc
	case r.connected == nil:
		r.fail("tcp", err, tcpRemedy(err))
	case r.applies("proxy") && r.proxied == "":
		r.fail("proxy", err, "the answer says what the proxy wants; `proxy` in the bridge has its URL, name and password")
	case r.applies("tls") && r.secured == nil:
		r.fail("tls", err, "the keys are those of `tls` in the bridge")
	default:
		r.fail("websocket", err, "the path in the URL has to be the one that the broker serves MQTT at, often /mqtt")
	}
	return nil
}

func (r *run) dateIs(header string) {
	if t, err := http.ParseTime(header); err == nil {
		now, _ := r.Clock()
		r.dated, r.offset = true, now.Sub(t)-time.Second/2 // it was cut to whole seconds
	}
}

func (r *run) resolve(ctx context.Context, host string) bool {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupHost(ctx, host)
	var dns *net.DNSError
	switch {
	case err == nil:
		r.tell("name", OK, host+": "+strings.Join(addresses, ", "), "")
		return true
	case errors.As(err, &dns) && dns.IsNotFound:
		r.fail("name", fmt.Errorf("%s: no such host", host), "correct the host in `upstream`; if it is right, the name server of this network does not know it")
	default:
		r.fail("name", err, "the name server does not answer: is the network up, and right in /etc/resolv.conf?")
	}
	return false
}

// certificate tells of the upstream's chain.
func (r *run) certificate(s dial.State) {
	const day = "2006-01-02"
	var chain []string
	for _, c := range s.Chain {
		chain = append(chain, fmt.Sprintf("%s until %s", dial.CertificateName(c), c.NotAfter.UTC().Format(day)))
	}
	answer := s.Version + ", " + strings.Join(chain, ", by ")
	if s.Protocol != "" {
		answer += ", ALPN " + s.Protocol
	}
	outcome, remedy := OK, ""
	now, _ := r.Clock()
	for _, e := range r.Dialer.Expiries() {
		left := e.NotAfter.Sub(now)
		if e.What == "client" {
			answer += fmt.Sprintf("; this side's %s until %s", e.Name, e.NotAfter.UTC().Format(day))
		}
		if left < dial.ExpiryWarning {
			outcome = Warning
			remedy = strings.TrimPrefix(remedy+fmt.Sprintf("; the %s's certificate ends in %v: have it renewed", e.What, left.Round(time.Hour)), "; ")
		}
	}
	r.tell("tls", outcome, answer, remedy)
}

// mqtt goes from CONNECT to the round trip.
func (r *run) mqtt(ctx context.Context, nc net.Conn) {
	r.id, r.back = rand.Text(), make(chan string, 100)
	if !r.connect(ctx, nc) {
		return
	}
	defer func() {
		if r.client != nil {
			r.client.Close()
		}
	}()
	if !r.subscribeIn(ctx) || !r.subscribe(ctx) {
		return
	}
	begun := time.Now()
	accepted := r.publish(ctx)
	expected := slices.DeleteFunc(slices.Clone(accepted[r.missed:]), func(t string) bool { return !slices.Contains(r.heard, t) })
	switch {
	case r.Deaf || len(r.Topics) == 0:
	case len(r.heard) == 0:
		r.tell("round trip", Skipped, "nothing can be read here", "")
	case len(expected) == 0:
		r.tell("round trip", Skipped, "nothing was published that can be read", "")
	case r.client != nil:
		r.roundTrip(ctx, expected, begun)
	}
}

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

// subscribeIn asks for what is to come from the upstream. It reports whether there is a connection afterwards.
func (r *run) subscribeIn(ctx context.Context) bool {
	var good []string
	for _, sub := range r.In {
		codes, err := r.client.Subscribe(ctx, []client.Subscription{sub})
		switch {
		case err != nil:
			r.tell("subscribe", Failed, "in: "+err.Error(), "the broker ends the connection instead of refusing, many do so where reading is not allowed: "+readRemedy(sub.Filter))
			if !r.reopen(ctx) {
				return false
			}
		case codes[0] >= wire.Unspecified:
			r.tell("subscribe", Failed, "in: "+refused(sub.Filter, codes[0]), readRemedy(sub.Filter))
		case byte(codes[0]) < sub.QoS:
			r.tell("subscribe", Warning, fmt.Sprintf("in: %s: granted QoS %d, want %d", sub.Filter, codes[0], sub.QoS),
				"what is published there while the bridge is away does not come in: have the broker grant it, or give the rule qos: 0")
		default:
			good = append(good, sub.Filter)
		}
	}
	if len(good) > 0 {
		r.tell("subscribe", OK, "in: "+strings.Join(good, ", "), "")
	}
	return true
}

func refused(filter string, code wire.Code) string {
	return fmt.Sprintf("%s: refused: %v (0x%02x)", filter, code, byte(code))
}

func readRemedy(filter string) string {
	return "give this user the right to read " + filter + " in the broker's access rules, or correct the rule in `in`"
}

// subscribe asks for what is published for the test. It reports whether there is a connection afterwards.
func (r *run) subscribe(ctx context.Context) bool {
	if r.Deaf {
		return true
	}
	const remedy = "sending needs no such right; whether what is sent is kept cannot be seen from here"
	for _, topic := range r.Topics {
		codes, err := r.client.Subscribe(ctx, []client.Subscription{{Filter: topic, QoS: 1}})
		switch {
		case err != nil:
			r.tell("subscribe", Warning, err.Error(), "the broker ends the connection instead of refusing: its log says why; "+remedy)
			if !r.reopen(ctx) {
				r.failed = true
				return false
			}
		case codes[0] >= wire.Unspecified:
			r.tell("subscribe", Warning, refused(topic, codes[0]), remedy)
		default:
			r.heard = append(r.heard, topic)
		}
	}
	if len(r.heard) > 0 {
		r.tell("subscribe", OK, strings.Join(r.heard, ", "), "")
	}
	return true
}

// publish returns the topics that were taken.
func (r *run) publish(ctx context.Context) (accepted []string) {
	for _, topic := range r.Topics {
		m := client.Message{Topic: topic, QoS: 1, Payload: []byte(`{"holdfast":"test","id":"` + r.id + `"}`)}
		if !r.V311 {
			m.Expires, m.Expiry = true, 60
		}
		err := r.client.Publish(ctx, m)
		var refusal *client.Refusal
		switch {
		case err == nil:
			accepted = append(accepted, topic)
		case errors.As(err, &refusal) && refusal.Code == wire.NotAuthorized:
			r.fail("publish", err, "give this user the right to write "+topic+" in the broker's access rules")
		case errors.As(err, &refusal):
			r.fail("publish", err, "the broker's limits, or its documents on this reason code, say more")
		default:
			r.fail("publish", fmt.Errorf("%s: %w", topic, err), "the broker ends the connection, or says nothing: many do so where writing is not allowed; its log says why")
			if r.missed = len(accepted); !r.reopen(ctx) {
				return accepted
			}
		}
	}
	if len(accepted) > 0 {
		r.tell("publish", OK, strings.Join(accepted, ", ")+": acknowledged", "")
	}
	return accepted
}

func (r *run) roundTrip(ctx context.Context, topics []string, begun time.Time) {
	missing := slices.Clone(topics)
	timeout := time.NewTimer(r.Timeout)
	defer timeout.Stop()
	for len(missing) > 0 {
		select {
		case topic := <-r.back:
			missing = slices.DeleteFunc(missing, func(t string) bool { return t == topic })
		case <-r.client.Lost():
			r.fail("round trip", r.client.Err(), "the broker ends the connection after the publish: many do so where writing is not allowed; its log says why")
			return
		case <-timeout.C:
			r.fail("round trip", fmt.Errorf("%s: acknowledged, and not handed on within %v", strings.Join(missing, ", "), r.Timeout),
				"MQTT 3.1.1 cannot refuse a publish, so brokers acknowledge what they then drop: give this user the right to write there in the broker's access rules")
			return
		case <-ctx.Done():
			r.fail("round trip", ctx.Err(), "")
			return
		}
	}
	r.tell("round trip", OK, fmt.Sprintf("came back within %v", time.Since(begun).Round(time.Millisecond)), "")
}

// tolerance is how far apart clocks may be: dates in HTTP have whole seconds, and take their time.
const tolerance = 5 * time.Second

func (r *run) clock() {
	_, synced := r.Clock()
	set, remedy := "this machine's clock is synchronised", ""
	if !synced {
		set, remedy = "nothing has set this machine's clock since it started", "let it be set: timedatectl set-ntp true"
	}
	outcome := OK
	if !synced {
		outcome = Warning
	}
	if !r.dated {
		r.tell("clock", outcome, "offset unknown: the upstream does not tell the time; "+set, remedy)
		return
	}
	answer := "the same as that of " + r.teller()
	if r.offset.Abs() > tolerance {
		outcome, remedy = Warning, "one of the two is wrong: timedatectl shows the state of this one; certificates and tokens depend on it"
		answer = fmt.Sprintf("%v ahead of that of %s", r.offset.Round(time.Second), r.teller())
	}
	r.tell("clock", outcome, answer+"; "+set, remedy)
}

func (r *run) teller() string {
	if r.upgraded {
		return "the upstream"
	}
	return "the proxy"
}
