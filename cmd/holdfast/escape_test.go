package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// evil is what a client may put into names and payloads to drive the terminal of who looks.
var evil = []string{
	"\x1b]0;title\x07", "\x1b[2J\x1b[1;1H", "\x1bP+q\x1b\\", "\x9b31m", "\u009b31m", "\u009d0;x\u009c", "\b\b\bok", "a\rb", "\x7f",
	"\u202egnp.exe", "\u2066x\u2069", "\x00", "\xff\xfe", "\x1bc",
}

// tame fails if a terminal could do something else with text than show it.
func tame(t *testing.T, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s: not UTF-8: %q", what, text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool {
		return r != '\n' && r != '\t' && unicode.IsControl(r) || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
	}); i >= 0 {
		t.Errorf("%s: %q", what, text[i:])
	}
}

func TestEscaper(t *testing.T) {
	for _, text := range evil {
		for cut := range len(text) + 1 { // wherever a buffer ends
			var b bytes.Buffer
			e := &escaper{w: &b}
			for _, part := range []string{"<", text[:cut], text[cut:], ">\n"} {
				if n, err := e.Write([]byte(part)); n != len(part) || err != nil {
					t.Fatalf("wrote %d of %d, %v", n, len(part), err)
				}
			}
			tame(t, text, b.String())
			if !strings.HasPrefix(b.String(), "<") || !strings.HasSuffix(b.String(), ">\n") {
				t.Errorf("got %q", b.String())
			}
		}
		tame(t, text, escaped(strings.ToValidUTF8(text, "?")))
	}
	var b bytes.Buffer
	e := &escaper{w: &b}
	plain := "µ 21.4 °C\t日本 😀\n"
	for i := range len(plain) {
		e.Write([]byte{plain[i]})
	}
	if b.String() != plain {
		t.Errorf("got %q, want %q", b.String(), plain)
	}
}

// TestEscapedJSON: what is escaped in JSON is the same text to a program.
func TestEscapedJSON(t *testing.T) {
	for _, text := range evil {
		text = strings.ToValidUTF8(text, "?")
		var b bytes.Buffer
		if err := json.NewEncoder(&escaper{w: &b}).Encode(text); err != nil {
			t.Fatal(err)
		}
		tame(t, text, b.String())
		var got string
		if err := json.Unmarshal(b.Bytes(), &got); err != nil || got != text {
			t.Errorf("got %q, want %q: %v", got, text, err)
		}
	}
}
