package main

import (
	"errors"
	"fmt"
	"time"
)

const (
	lostShare  = 0.3 // of IP packets, each way
	oneWay     = 50 * time.Millisecond
	lossQuiet  = 5 * time.Minute // nothing has arrived for so long: nothing will
	isolatedBy = "-isolated"
)

// lossy is what gets through a link that loses packets.
type lossy struct {
	account
	rate          float64 // messages a second
	connections   int64
	packets, lost int64
}

// compareLoss makes gateways drain over a link that loses 30 % of all packets. It needs network namespaces, so it
// is this program once more that does it.
func compareLoss(o *options, r *report) error {
	if !o.isolated {
		return isolate(isolatedBy, "-only", "loss", "-program", o.program, "-dir", o.dir, "-lossy", fmt.Sprint(o.lossy))
	}
	r.row("%.0f %% of packets lost\tgateway\tacknowledged\tmessages/s\tlost\tdisordered\tduplicates\tconnections\tpackets", 100*lostShare)
	for _, kind := range []string{ours, autosave} {
		l, err := measureLoss(o, kind)
		if err != nil {
			return fmt.Errorf("%s: %w", kind, err)
		}
		r.row("\t%s\t%d\t%.1f\t%d\t%d\t%d\t%d\t%d, %.1f %% lost", kind, l.acknowledged, l.rate,
			l.account.lost, l.disorder, l.duplicates, l.connections, l.packets, 100*float64(l.lost)/float64(l.packets))
		if kind == ours {
			r.kept("packets lost", l.account, int(l.connections-1))
		}
	}
	return nil
}

func measureLoss(o *options, kind string) (l lossy, err error) {
	tunnel, err := newTunnel(lostShare, oneWay)
	if err != nil {
		return l, err
	}
	defer tunnel.close()
	own := *o
	own.listen = tunnel.listen
	t, err := newTrial(&own, kind, 1)
	if err != nil {
		return l, err
	}
	defer t.close()
	t.upstream.set(true)
	if err = t.load.run(nil, uint64(o.lossy), 0, 0); err != nil {
		return l, err
	}
	begun, first := time.Now(), uint64(0)
	for last, quiet := uint64(0), time.Now(); t.sink.lost(t.load) > 0 && time.Since(quiet) < lossQuiet; time.Sleep(20 * time.Millisecond) {
		n := t.sink.received.Load()
		if n != last && first == 0 { // connecting is a matter of luck
			begun, first = time.Now(), n
		}
		if n != last {
			last, quiet = n, time.Now()
		}
	}
	l.rate = float64(t.sink.received.Load()-first) / time.Since(begun).Seconds()
	l.account = t.sink.settle(t.load)
	l.connections, l.packets, l.lost = t.upstream.accepted.Load(), tunnel.packets.Load(), tunnel.lost.Load()
	if l.packets == 0 {
		return l, errors.New("no packet has gone by the lossy link")
	}
	return l, nil
}
