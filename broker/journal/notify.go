package journal

// Notify sets f, which is called when TryNext may succeed after it reported false, besides the value in Ready. f
// must neither block nor call the journal. A reader has one f, set before Attach.
func (r *Reader) Notify(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notify = f
}

// announce is called with mu held.
func (r *Reader) announce() {
	signal(r.ready)
	if r.notify != nil {
		r.notify()
	}
}
