package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

const topEvery = time.Second

func topCommand() *cobra.Command {
	var s socket
	c := &cobra.Command{
		Use:   "top",
		Short: "Show how the running gateway is doing, every second, until q or Ctrl-C",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if _, err := s.status(c.Context()); err != nil {
				return err
			}
			keys, restore, err := rawTerminal()
			if err != nil {
				return usageError{fmt.Errorf("top needs a terminal, for scripts there is 'holdfast status': %w", err)}
			}
			defer restore()
			return top(c.Context(), &s, os.Stdout, keys)
		},
	}
	s.flags(c)
	return c
}

// top draws until a key ends it or ctx ends. If the gateway goes away, it says so and waits for it.
func top(ctx context.Context, s *socket, screen *os.File, keys <-chan byte) error {
	fmt.Fprint(screen, "\x1b[?1049h\x1b[?25l") // a screen of its own, without a cursor
	defer fmt.Fprint(screen, "\x1b[?25h\x1b[?1049l")
	tick := time.NewTicker(topEvery)
	defer tick.Stop()
	for {
		p := page{colour: inColour(screen)}
		answer, cancel := context.WithTimeout(ctx, 5*topEvery)
		if st, err := s.status(answer); err == nil {
			p.status(st)
		} else {
			p.row(span{time.Now().Format(time.DateTime) + " " + err.Error(), bad})
		}
		cancel()
		width, height := 80, 24
		if size, err := unix.IoctlGetWinsize(int(screen.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 1 {
			width, height = int(size.Col), int(size.Row)
		}
		if err := draw(screen, p.lines(width), height); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case k, ok := <-keys:
			if !ok || k == 'q' || k == 'Q' {
				return nil
			}
		case <-tick.C:
		}
	}
}

// draw overwrites the screen with as many lines as fit, in one write: no flicker.
func draw(w io.Writer, lines []string, height int) error {
	if len(lines) > height {
		lines = append(lines[:height-1:height-1], fmt.Sprintf("... %d lines more", len(lines)-height+1))
	}
	_, err := io.WriteString(w, "\x1b[H"+strings.Join(lines, "\x1b[K\r\n")+"\x1b[K\x1b[J")
	return err
}

// rawTerminal makes the terminal deliver keys one by one, without echo. Ctrl-C stays a signal.
func rawTerminal() (keys <-chan byte, restore func(), err error) {
	fd := int(os.Stdin.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, nil, err
	}
	if _, err := unix.IoctlGetTermios(int(os.Stdout.Fd()), unix.TCGETS); err != nil {
		return nil, nil, err
	}
	raw := *before
	raw.Lflag &^= unix.ECHO | unix.ICANON
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return nil, nil, err
	}
	typed := make(chan byte)
	go func() { // nothing ends a read from a terminal but the end of the process
		defer close(typed)
		var b [1]byte
		for {
			if n, err := os.Stdin.Read(b[:]); n == 0 || err != nil {
				return
			}
			typed <- b[0]
		}
	}()
	return typed, func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}
