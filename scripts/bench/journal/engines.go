package main

// engine is a kind of queue that can be measured.
type engine struct {
	name string
	open func(dir string) (queue, error) // makes the directory
}

// ours is the name of holdfast's own journal.
const ours = "holdfast"

// engines are all of them, ours first.
func engines() []engine {
	return []engine{
		{ours, openHoldfast},
		{"bbolt", openBolt},
		{"pebble", openPebble},
		{"raft-wal", openRaftWAL},
		{"tidwall-wal", openTidwall},
		{"sqlite", openSQLite},
	}
}
