package guest

import (
	"fmt"
	"testing"
)

// TestArchive compares with what cpio -o -H newc writes.
func TestArchive(t *testing.T) {
	got := string(Archive([]File{{"a", 0o644, []byte("hello\n")}, {"bin", Dir, nil}}))
	header := func(ino, mode, size, name int) string {
		return fmt.Sprintf("070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X", ino, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0)
	}
	want := header(1, 0o100644, 6, 2) + "a\x00" + "hello\n\x00\x00" +
		header(2, 0o40755, 0, 4) + "bin\x00\x00\x00" +
		header(3, 0o100000, 0, 11) + "TRAILER!!!\x00\x00\x00\x00"
	if got != want {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}
