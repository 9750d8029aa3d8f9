package bridge

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/url"
	"time"

	"holdfast/broker/dial"
	"holdfast/broker/wire"
)

const connectTimeout = 30 * time.Second // from the first byte of MQTT to CONNACK

// connect makes a connection to an upstream, with the newest version that both speak.
func (b *Bridge) connect(ctx context.Context, u *url.URL) (*link, error) {
	version := b.opts.Protocol
	if version == 0 {
		version = wire.V5
		if b.mqtt311Until.has(u) {
			version = wire.V311
		}
	}
	will := b.will(u)
	l, err := b.attempt(ctx, u, version, will)
	if will != nil && refusesWill(err) && ctx.Err() == nil {
		var second error
		if l, second = b.attempt(ctx, u, version, nil); second != nil {
			return nil, err
		}
		b.disablePresence(u, err.Error())
		return l, nil
	}
	if b.opts.Protocol == 0 && version == wire.V5 && unsupported(err) && ctx.Err() == nil {
		var second error
		if l, second = b.attempt(ctx, u, wire.V311, will); second != nil {
			return nil, err
		}
		b.mqtt311Until.note(u)
		b.log.Info("upstream does not speak MQTT 5", "upstream", dial.Redact(u.String()), "reason", err)
		err = nil
	}
	return l, err
}

func (b *Bridge) attempt(ctx context.Context, u *url.URL, version wire.Version, will *wire.Will) (*link, error) {
	connect := &wire.Connect{
		Version: version, CleanStart: b.in == nil, ClientID: b.opts.ClientID,
		KeepAlive: uint16(b.opts.KeepAlive / time.Second), Will: will,
	}
	if b.opts.Credentials != nil {
		name, password, err := b.opts.Credentials()
		if err != nil {
			return nil, err
		}
		connect.HasUsername, connect.Username = name != "" || password != "" && version != wire.V5, name
		connect.HasPassword, connect.Password = password != "", []byte(password)
	}
	if version == wire.V5 {
		limit := uint32(maxReceive)
		connect.Properties.MaximumPacketSize = &limit
		if b.in != nil {
			most, expiry := uint16(inFlight), uint32(min(b.opts.SessionExpiry/time.Second, math.MaxUint32))
			connect.Properties.ReceiveMaximum, connect.Properties.SessionExpiry = &most, &expiry
		}
	}
	nc, err := b.opts.Dial(ctx, u)
	if err != nil {
		return nil, err
	}
	return handshake(ctx, nc, connect, b.opts.AckTimeout)
}

// handshake sends CONNECT over nc, which it owns, and waits for CONNACK.
func handshake(ctx context.Context, nc net.Conn, connect *wire.Connect, timeout time.Duration) (*link, error) {
	l := &link{
		nc: nc, version: connect.Version, timeout: timeout, willed: connect.Will != nil,
		arrived: make(chan *batch), free: make(chan *batch, 2), ended: make(chan struct{}), stop: make(chan struct{}),
		in: input{buf: make([]byte, 0, readBuffer)}, out: newOutput(),
	}
	l.free <- &batch{}
	l.free <- &batch{}
	interrupted := context.AfterFunc(ctx, func() { nc.Close() })
	ack, err := l.connack(connect)
	if !interrupted() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		nc.Close()
		return nil, err
	}
	l.limits = limitsOf(ack, connect)
	l.tcp.tune(nc)
	l.begun = time.Now()
	go l.read()
	go l.write()
	return l, nil
}

func (l *link) connack(connect *wire.Connect) (*wire.Connack, error) {
	l.nc.SetDeadline(time.Now().Add(connectTimeout))
	if _, err := l.nc.Write(wire.Append(nil, connect.Version, connect)); err != nil {
		return nil, err
	}
	for {
		raw, n, err := wire.Split(l.in.buf, maxReceive)
		if err != nil {
			return nil, err
		}
		if n <= len(l.in.buf) {
			version := l.version
			if len(raw.Body) == 2 { // 3.1.1, of an upstream that knows nothing else
				version = wire.V311
			}
			p, err := raw.Packet(version)
			if err != nil {
				return nil, err
			}
			l.in.buf = l.in.buf[:copy(l.in.buf, l.in.buf[n:])]
			ack, ok := p.(*wire.Connack)
			switch {
			case !ok:
				return nil, fmt.Errorf("upstream sends %v, want CONNACK", raw.Type())
			case ack.Code != wire.Success:
				return nil, reasonOf(wire.CONNACK, ack.Code, &ack.Properties)
			case version != l.version:
				return nil, reasonOf(wire.CONNACK, wire.UnsupportedVersion, &ack.Properties)
			}
			return ack, l.nc.SetDeadline(time.Time{})
		}
		if err := l.more(n); err != nil {
			return nil, err
		}
	}
}

// limits are those of the upstream's CONNACK, or the defaults where it gives none.
type limits struct {
	receive   int // messages in flight
	packet    int // bytes; 0 means no limit
	aliases   int
	qos       byte
	retain    bool
	keepAlive time.Duration
	present   bool // the session of an earlier connection goes on
}

func limitsOf(ack *wire.Connack, connect *wire.Connect) limits {
	p := &ack.Properties
	l := limits{receive: 65535, qos: 2, retain: true, keepAlive: time.Duration(connect.KeepAlive) * time.Second, present: ack.SessionPresent}
	if p.ReceiveMaximum != nil {
		l.receive = int(*p.ReceiveMaximum)
	}
	if p.MaximumPacketSize != nil {
		l.packet = int(*p.MaximumPacketSize)
	}
	if p.TopicAliasMaximum != nil {
		l.aliases = int(*p.TopicAliasMaximum)
	}
	if p.MaximumQoS != nil {
		l.qos = *p.MaximumQoS
	}
	if p.RetainAvailable != nil {
		l.retain = *p.RetainAvailable != 0
	}
	if p.ServerKeepAlive != nil { // [MQTT-3.1.2-21]
		l.keepAlive = time.Duration(*p.ServerKeepAlive) * time.Second
	}
	return l
}
