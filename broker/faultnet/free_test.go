package faultnet

import (
	"net"
	"testing"
)

// TestFreeAddress: addresses differ, can be listened on, and are in a block that nobody else takes.
func TestFreeAddress(t *testing.T) {
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

	free.mu.Lock()
	first, block := free.first, free.block
	err := takeBlock() // as another process does
	if err != nil || free.first == first || free.first < firstPort || free.first >= firstPort+blocks*blockPorts {
		t.Errorf("another block: got %d beside %d, %v", free.first, first, err)
	}
	block.Close()
	free.mu.Unlock()
	if a, err := FreeAddress(); err != nil || seen[a] {
		t.Errorf("got %s, %v", a, err)
	}
}
