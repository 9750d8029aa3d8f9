package journal

// ring is a queue of deliveries that reuses its memory.
type ring struct {
	buf  []Delivery // a power of two, or none
	head int
	n    int
}

// keepRing is the most deliveries that an empty ring has room for.
const keepRing = 512

func (q *ring) push(d Delivery) {
	if q.n == len(q.buf) {
		larger := make([]Delivery, max(16, 2*len(q.buf)))
		for i := range q.n {
			larger[i] = q.buf[(q.head+i)&(len(q.buf)-1)]
		}
		q.buf, q.head = larger, 0
	}
	q.buf[(q.head+q.n)&(len(q.buf)-1)] = d
	q.n++
}

// pop takes out the oldest delivery; there must be one.
func (q *ring) pop() Delivery {
	d := q.buf[q.head]
	q.buf[q.head] = Delivery{}
	q.head = (q.head + 1) & (len(q.buf) - 1)
	q.n--
	return d
}

// shrink frees memory that an empty ring does not need.
func (q *ring) shrink() {
	if q.n == 0 && len(q.buf) > keepRing {
		*q = ring{}
	}
}
