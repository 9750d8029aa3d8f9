package config

import (
	"fmt"
	"strings"
)

// Show returns the files as Redact leaves them, each below its name, for people to look at. The error is
// that of Load, which does not keep the text from being shown.
func Show(files []string, opts Options) (string, error) {
	opts = opts.complete()
	_, err := Load(files, opts)
	var b strings.Builder
	for _, name := range files {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "# %s\n", name)
		text, cause := opts.ReadFile(name, maxFile)
		if cause == nil {
			text, _, cause = Redact(text)
		}
		if cause != nil {
			fmt.Fprintf(&b, "# is not shown: %v\n", cause)
			continue
		}
		b.Write(text)
	}
	return b.String(), err
}
