package server

import (
	"time"

	"holdfast/broker/auth"
	"holdfast/broker/wire"
)

// peer is what CONNECT tells of a client, and the rights that its login has got.
type peer struct {
	since     time.Time
	grant     *auth.Grant
	publisher string        // the owner of its publishes in the journal: the user, or else the client itself
	keepAlive time.Duration // 0 means none
	maxPacket int           // the client's limit; 0 means none
	version   wire.Version
	aliasMax  uint16 // topic aliases that the client accepts
	bridge    bool   // the client is another broker's bridge
	noReasons bool   // the client wants neither reason strings nor user properties
}

// read sets what stands in a CONNECT, within the server's limits. The rest is the login's.
func (r *peer) read(p *wire.Connect, o *Options) {
	r.version, r.since, r.bridge = p.Version, time.Now(), p.Bridge
	r.keepAlive = time.Duration(p.KeepAlive) * time.Second
	if most := o.ServerKeepAlive; most > 0 && r.version == wire.V5 && (r.keepAlive == 0 || r.keepAlive > most) {
		r.keepAlive = most
	}
	if v := p.Properties.MaximumPacketSize; v != nil {
		r.maxPacket = int(min(*v, wire.MaxSize+5))
	}
	if v := p.Properties.TopicAliasMaximum; v != nil {
		r.aliasMax = min(*v, uint16(o.MaxAliases))
	}
	if v := p.Properties.RequestProblemInfo; v != nil {
		r.noReasons = *v == 0
	}
}

// takes reports whether the client accepts a packet of that many bytes [MQTT-3.1.2-24].
func (r *peer) takes(size int) bool { return r.maxPacket == 0 || size <= r.maxPacket }

// because returns properties with a reason string for a 5.0 client, unless it declined them [MQTT-3.1.2-29].
func (r *peer) because(text string) (p wire.Properties) {
	if r.version == wire.V5 && !r.noReasons && r.takes(len(text)+16) {
		p.ReasonString = &text
	}
	return p
}
