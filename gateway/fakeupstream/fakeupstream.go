// Package fakeupstream is an upstream broker in this process that can be taken away and brought back, and a
// ledger of what was promised and what has arrived. The demo and the torture test run a gateway against it.
//
// The upstream stores nothing: it reports each message before it acknowledges it. The ledger compares numbers,
// and uses no counters of the code that it checks.
package fakeupstream

import (
	"context"

	"holdfast/broker"
	"holdfast/broker/faultnet"
	"holdfast/broker/journal"
	"holdfast/broker/server"
)

// Upstream is a broker on a loopback address that stays the same. Its methods are for one goroutine.
type Upstream struct {
	Address string // host:port

	journal *journal.Journal
	filter  string
	take    func(*broker.Message)
	cancel  func() // nil while it is away
}

// NewUpstream returns one that is away. It calls take with every message that matches filter; dir is for the
// broker's files.
func NewUpstream(dir, filter string, take func(*broker.Message)) (*Upstream, error) {
	address, err := faultnet.FreeAddress()
	if err != nil {
		return nil, err
	}
	fs, err := journal.NewDirFS(dir)
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 16 << 20})
	if err != nil {
		return nil, err
	}
	return &Upstream{Address: address, journal: j, filter: filter, take: take}, nil
}

// Running reports whether it is there.
func (u *Upstream) Running() bool { return u.cancel != nil }

// Start brings it back.
func (u *Upstream) Start() error {
	if u.Running() {
		return nil
	}
	s, err := server.New(server.Options{
		Journal: u.journal, Anonymous: true,
		Listeners: []server.Listener{{Network: "tcp", Address: u.Address}},
	})
	if err != nil {
		return err
	}
	if _, err := s.Subscribe(u.filter, u.take); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	u.cancel = func() {
		cancel()
		<-ended
	}
	return nil
}

// Stop takes it away.
func (u *Upstream) Stop() {
	if u.Running() {
		u.cancel()
		u.cancel = nil
	}
}

// Close stops it for good.
func (u *Upstream) Close() error {
	u.Stop()
	return u.journal.Close()
}
