package link

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

// TestFreeAddress: addresses differ, can be listened on, and another process gets none of them.
func TestFreeAddress(t *testing.T) {
	if os.Getenv("LINK_FREE_ADDRESS") != "" { // the other process
		a, err := FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString(a)
		os.Exit(0)
	}
	seen := map[string]bool{}
	for range blockPorts - 1 {
		a, err := FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		if seen[a] {
			t.Fatalf("%s comes again", a)
		}
		seen[a] = true
		l, err := net.Listen("tcp", a)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
	}
	if a, err := FreeAddress(); err == nil {
		t.Errorf("got %s although all are taken", a)
	}
	other := exec.Command(os.Args[0], "-test.run", "^TestFreeAddress$")
	other.Env = append(os.Environ(), "LINK_FREE_ADDRESS=1")
	a, err := other.Output()
	if err != nil || len(a) == 0 || seen[string(a)] {
		t.Errorf("another process got %q, %v", a, err)
	}
}
