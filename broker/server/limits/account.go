package limits

import "sync"

// The last eighth of what all clients share is reserved for users that have at most a sixteenth of it, and at most half
// of what others leave: however many users take their share, there is room for the next one.
const (
	lastPart  = 8
	smallPart = 16
)

// Share returns how much one user may have of an amount that all clients share, percent of it, if others have so much
// already. Clients without a user count as one.
func Share(percent int, all, others int64) int64 {
	if percent >= 100 {
		return all
	}
	most := int64(float64(all) * float64(percent) / 100)
	return max(1, min(most, max(min(all/smallPart, (all-others)/2), all-all/lastPart-others)))
}

// Account counts the use of one resource by all clients and by each user. Before Limit, only Add
// and Give may be called. It is safe for concurrent use.
type Account struct {
	limit   Name // that refuses where all users together have most
	most    int64
	percent int // of most that one user may have; see Share

	mu   sync.Mutex // a leaf; guards what follows
	all  int64
	each map[string]int64 // by user
}

// Limit sets the most that all users may have, of which one user may have percent, before the first use. n is the limit that
// refuses more.
func (a *Account) Limit(n Name, most int64, percent int) {
	a.limit, a.most, a.percent = n, most, percent
}

// Take adds n for a user, unless all then exceed the limit or the user its share of it. It returns which limit refuses,
// or nothing.
func (a *Account) Take(user string, n int64) (refused Name) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case n > 0 && a.all+n > a.most:
		return a.limit
	case n > 0 && a.each[user]+n > Share(a.percent, a.most, a.all-a.each[user]):
		return UserShare
	}
	a.count(user, n)
	return ""
}

// Add adds n for a user, whatever the limits are.
func (a *Account) Add(user string, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count(user, n)
}

// Give gives n back.
func (a *Account) Give(user string, n int64) { a.Add(user, -n) }

// count is called with mu held.
func (a *Account) count(user string, n int64) {
	a.all += n
	if a.each == nil {
		a.each = map[string]int64{}
	}
	if a.each[user] += n; a.each[user] <= 0 {
		delete(a.each, user)
	}
}

// Of returns what a user has.
func (a *Account) Of(user string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.each[user]
}

// Share returns how much a user may have now.
func (a *Account) Share(user string) int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return Share(a.percent, a.most, a.all-a.each[user])
}
