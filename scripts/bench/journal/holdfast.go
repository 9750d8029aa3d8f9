package main

import (
	"context"
	"errors"

	"holdfast/broker/journal"
)

// holdfast is our own journal as the product opens it, with one reader.
type holdfast struct {
	j    *journal.Journal
	r    *journal.Reader
	owed []journal.Owed
}

func openHoldfast(dir string) (queue, error) {
	fs, err := journal.NewDirFS(dir)
	if err != nil {
		return nil, err
	}
	j, err := journal.Open(journal.Options{FS: fs, MaxSize: 64 << 30, WhenFull: journal.RefuseNew})
	if err != nil {
		return nil, err
	}
	r, err := j.OpenReader("bridge/bench")
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return &holdfast{j, r, []journal.Owed{{Reader: r, QoS: 1}}}, nil
}

func (h *holdfast) put(m *message, c *client) error {
	return h.j.Append(journal.Entry{Message: &m.Message, Owed: h.owed, Done: c})
}

func (h *holdfast) consume(ctx context.Context) error {
	h.r.Attach()
	defer h.r.Detach()
	for {
		d, err := h.r.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		h.r.Ack(d.Seq)
	}
}

func (h *holdfast) drain(ctx context.Context, f func([]byte)) (count uint64, err error) {
	h.r.Attach()
	defer h.r.Detach()
	for ctx.Err() == nil {
		d, ok, err := h.r.TryNext()
		if err != nil || !ok {
			return count, err
		}
		f(d.Message.Payload)
		h.r.Ack(d.Seq)
		count++
	}
	return count, ctx.Err()
}

func (h *holdfast) commits() uint64 { return h.j.Stats().Commits }

func (h *holdfast) behind() bool { return h.r.Depth() > 1000 }

func (h *holdfast) close() error { return h.j.Close() }
