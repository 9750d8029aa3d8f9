package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// Limits on what is read, in bytes: generous for people, and a bound for everything that follows.
const (
	maxFile      = 1 << 20  // one configuration file
	maxReference = 64 << 10 // one file named by ${file:PATH}
)

// parse reads one file as a single YAML document without looking at its keys.
func (l *loader) parse(name string) (field, *Error) {
	data, err := l.opts.ReadFile(name, maxFile)
	if err != nil {
		return field{}, &Error{File: name, Text: err.Error()}
	}
	if line, err := checkText(data); err != nil {
		return field{}, &Error{File: name, Line: line, Text: err.Error()}
	}
	doc, next, err := documents(data)
	switch {
	case errors.Is(err, io.EOF):
		return field{}, &Error{File: name, Text: "the file is empty: write {} if that is meant"}
	case err != nil:
		line, text := syntax(err, data)
		return field{}, &Error{File: name, Line: line, Text: text}
	case next != nil:
		return field{}, &Error{File: name, Line: next.Line, Text: "a second YAML document starts here: remove the \"---\" or put it into a file of its own"}
	}
	root := doc.Content[0]
	return field{file: name, line: root.Line, node: root}, nil
}

// documents returns the first document and, if there is one, the second. An empty text is io.EOF.
func documents(data []byte) (doc, next *yaml.Node, err error) {
	// Some malformed texts make the YAML package panic with "please report".
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("yaml: this cannot be parsed")
		}
	}()
	d := yaml.NewDecoder(bytes.NewReader(data))
	doc = new(yaml.Node)
	if err := d.Decode(doc); err != nil {
		return nil, nil, err
	}
	next = new(yaml.Node)
	switch err := d.Decode(next); {
	case errors.Is(err, io.EOF):
		return doc, nil, nil
	case err != nil:
		return nil, nil, err
	}
	return doc, next, nil
}

// parserErrors are the YAML package's errors about structure. It counts their lines from 0, and if
// they are inside of a list or mapping that does not start on the first line, gives its start.
var parserErrors = regexp.MustCompile(`^did not find expected (key|node content|'-' indicator|',' or|<)`)

var unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced$`)

// syntax takes an error of the YAML package about data apart.
func syntax(err error, data []byte) (line int, text string) {
	text = strings.TrimPrefix(err.Error(), "yaml: ")
	if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		// The name is not repeated: it is as likely as not a password that lacks quotes.
		before, _, _ := bytes.Cut(data, []byte("*"+m[1]))
		return 1 + bytes.Count(before, []byte("\n")), noAnchors
	}
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
	}
	where := "not YAML: "
	if parserErrors.MatchString(text) {
		line, where = line+1, "not YAML, here or in what starts here: "
	}
	line = max(line, 1)
	if at := tabbed(data, line); at > 0 {
		return at, "not YAML: this line is indented with a tab: use spaces, as many as the lines beside it"
	}
	for _, h := range syntaxHints {
		if strings.Contains(text, h.text) {
			return line, where + text + ": " + h.hint
		}
	}
	return line, where + text
}

// syntaxHints are what usually causes an error of the YAML package.
var syntaxHints = []struct{ text, hint string }{
	{"did not find expected key", "compare the indentation with the lines before: the keys of one mapping begin in the same column"},
	{"did not find expected '-' indicator", "compare the indentation with the lines before: the dashes of one list are in the same column, and the keys of an entry in another one"},
	{"did not find expected ','", "a [ or { is not closed, or a comma is missing"},
	{"mapping values are not allowed", "this line is indented more than the key that it belongs to, or a text with a colon in it needs quotes"},
	{"could not find expected ':'", "a key needs a colon and a blank after it, and a text of several lines needs quotes"},
	{"found character that cannot start any token", "put text that starts with @, ` or % in quotes"},
	{"found unexpected end of stream", "a quote is not closed"},
	{"found unknown escape character", "in double quotes a backslash is written twice; in single quotes once"},
}

// tabbed returns the line near one, where the YAML package found a mistake, that a tab indents; 0 if there is none.
func tabbed(data []byte, line int) int {
	n := 0
	for text := range bytes.Lines(data) {
		n++
		indent := text[:len(text)-len(bytes.TrimLeft(text, " \t"))]
		if n >= line-1 && n <= line+10 && bytes.ContainsRune(indent, '\t') && len(bytes.TrimSpace(text)) > 0 {
			return n
		}
	}
	return 0
}

// checkText finds the first byte that is no text at all, and its line.
func checkText(data []byte) (line int, err error) {
	line = 1
	for len(data) > 0 {
		r, size := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && size == 1:
			return line, fmt.Errorf("byte 0x%02x is not UTF-8: save the file as UTF-8", data[0])
		case r == '\n':
			line++
		case unicode.IsControl(r) && r != '\t' && r != '\r':
			return line, fmt.Errorf("control character %U: remove it", r)
		}
		data = data[size:]
	}
	return 0, nil
}

// ReadFile reads a regular file of at most limit bytes. It waits for no device or pipe. The errors
// name no path.
func ReadFile(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errors.New("no such file")
	case err != nil:
		return nil, cause(err)
	case info.IsDir():
		return nil, errors.New("is a directory, want a file")
	case !info.Mode().IsRegular():
		return nil, errors.New("is not a regular file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	// The size of a file in /proc is 0: only reading shows it.
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, cause(err)
	case int64(len(data)) > limit:
		return nil, fmt.Errorf("is larger than %d KiB", limit>>10)
	}
	return data, nil
}

// cause strips operation and path from a file system error.
func cause(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}
