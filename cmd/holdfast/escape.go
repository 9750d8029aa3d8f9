package main

import (
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// escaper writes bytes that could move a cursor, change a title or a colour, or turn the direction of text
// around as \u001b: a topic, a client identifier or an answer may contain them. Commands write through it
// always, not to a terminal alone: what goes into a file or through less -R today is on a screen tomorrow. Such
// an escape is right in JSON too, where a control character stands only in a string.
//
// Lines and tabs stay. A rune that is cut by the end of a Write is kept until the next one. Commands that draw
// (status, top) clean their own spans and write to raw; sub writes payloads as they are if no terminal reads them.
type escaper struct {
	w    io.Writer
	rest []byte // the first bytes of a rune
}

// protect makes a command and those below it write through escapers.
func protect(c *cobra.Command, out, err io.Writer) {
	c.SetOut(&escaper{w: out})
	c.SetErr(&escaper{w: err})
}

// raw is what is below an escaper.
func raw(w io.Writer) io.Writer {
	if e, ok := w.(*escaper); ok {
		return e.w
	}
	return w
}

func (e *escaper) Write(p []byte) (int, error) {
	text := append(e.rest, p...)
	e.rest = nil
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1 && !utf8.FullRune(text):
			e.rest = append([]byte(nil), text...)
			n = len(text)
		case r == utf8.RuneError && n == 1:
			out = fmt.Appendf(out, `\u%04x`, text[0])
		case harmful(r):
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	if _, err := e.w.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// harmful reports whether a terminal could do something else with r than show it: control characters of C0 and
// C1 (ECMA-48, 5.2 and 5.3), and those that change the direction of what follows (Unicode UAX #9).
func harmful(r rune) bool {
	switch r {
	case '\n', '\t':
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// escaped is text as an escaper writes it, for a place where it is one line.
func escaped(s string) string {
	var out []byte
	for _, r := range s {
		if harmful(r) || r == '\n' || r == '\t' {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return string(out)
}
