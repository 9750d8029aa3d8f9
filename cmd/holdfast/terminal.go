package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// terminal asks a person.
type terminal struct {
	prompt io.Writer
	shown  unix.Termios
	lines  chan []byte // closed at the end of the input
}

var errInterrupted = errors.New("interrupted: nothing is changed")

// openTerminal returns nil if stdin is no terminal.
func openTerminal(prompt io.Writer) *terminal {
	shown, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	x := &terminal{prompt: prompt, shown: *shown, lines: make(chan []byte)}
	go func() { // nothing ends a read from a terminal
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			x.lines <- bytes.Clone(in.Bytes())
		}
		close(x.lines)
	}()
	return x
}

// ask returns what is typed, or nil at the end of the input.
func (x *terminal) ask(ctx context.Context, question string) ([]byte, error) {
	fmt.Fprint(x.prompt, question)
	select {
	case answer := <-x.lines:
		return answer, nil
	case <-ctx.Done(): // Ctrl-C
		return nil, errInterrupted
	}
}

// password asks twice and shows nothing of it.
func (x *terminal) password(ctx context.Context) ([]byte, error) {
	fd := int(os.Stdin.Fd())
	hidden := x.shown
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &hidden); err != nil {
		return nil, err
	}
	defer unix.IoctlSetTermios(fd, unix.TCSETS, &x.shown)
	var answers [2][]byte
	for i, question := range []string{"Password: ", "Again: "} {
		var err error
		if answers[i], err = x.ask(ctx, question); err != nil {
			return nil, err
		}
		fmt.Fprintln(x.prompt)
	}
	if !bytes.Equal(answers[0], answers[1]) {
		return nil, errors.New("the two are not the same: nothing is changed")
	}
	return someText(answers[0])
}
