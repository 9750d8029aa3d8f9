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
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/broker/client"
	"holdfast/broker/dial"
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
	last   string      // the last step that was reported

	connected net.Addr
	proxied   string
	secured   *dial.State
	upgraded  bool
	dated     bool          // the upstream or the proxy has sent its time
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
	for _, name := range Names[slices.Index(Names, r.last)+1:] {
		if name != "clock" && r.applies(name) {
			r.tell(name, Skipped, "not tried", "")
		}
	}
	r.clock()
	return !r.failed
}

func (r *run) tell(name string, o Outcome, answer, remedy string) {
	r.last = name
	r.failed = r.failed || o == Failed
	r.report(Step{name, o, answer, remedy})
}

func (r *run) fail(name string, err error, remedy string) {
	r.tell(name, Failed, err.Error(), remedy)
}

// applies reports whether there is such a step on this way.
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
