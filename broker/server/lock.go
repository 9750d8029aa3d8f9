package server

import "sync"

// The locks of this package, and what each guards:
//
//	listeners.mu        the open listeners
//	Store.lanes         the order in which retained publishes of a topic reach the store and the journal
//	Server.mu           sessions, connections, and of each session its owner and what happens while its client is away
//	session.mu          a session's subscriptions and outbox
//	conn.mu             a connection's phase, its queued packets, and the client's packets that are to be answered
//	routes.mu           the routes
//	Store.mu            the retained messages, in package retained
//	Index.mu            the tree of subscriptions, in package filters
//
// A goroutine that holds one may take those below it, but none above it. The locks of receivedIDs, inbox and memory,
// and those of packages intake and limits, are leaves: nothing is locked under them. The journal, which has locks of its
// own, is called under those from listeners.mu to session.mu. Only an entry with a message, under a lane, may then wait for
// the disk; changes of a session's state never do.
//
// The journal's completer, which all clients wait for, waits for none of the first five. It takes session.mu and conn.mu
// by lockNow, or leaves its work to the session's inbox.

// lockTries is how often to try a lock before leaving the work to the inbox: a few hundred
// nanoseconds, as long as most goroutines hold it.
const lockTries = 64

// lockNow takes mu and reports whether it did. It does not wait.
func lockNow(mu *sync.Mutex) bool {
	for range lockTries {
		if mu.TryLock() {
			return true
		}
	}
	return false
}
