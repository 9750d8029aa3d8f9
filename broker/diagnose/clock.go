package diagnose

import (
	"fmt"
	"net/http"
	"time"
)

// dateIs notes the time in a Date header.
func (r *run) dateIs(header string) {
	if t, err := http.ParseTime(header); err == nil {
		now, _ := r.Clock()
		r.dated, r.offset = true, now.Sub(t)-time.Second/2 // it was cut to whole seconds
	}
}

// tolerance is how far apart clocks may be: dates in HTTP have whole seconds, and take their time.
const tolerance = 5 * time.Second

func (r *run) clock() {
	_, synced := r.Clock()
	set, remedy := "this machine's clock is synchronised", ""
	if !synced {
		set, remedy = "nothing has set this machine's clock since it started", "let it be set: timedatectl set-ntp true"
	}
	outcome := OK
	if !synced {
		outcome = Warning
	}
	if !r.dated {
		r.tell("clock", outcome, "offset unknown: the upstream does not tell the time; "+set, remedy)
		return
	}
	answer := "the same as that of " + r.teller()
	if r.offset.Abs() > tolerance {
		outcome, remedy = Warning, "one of the two is wrong: timedatectl shows the state of this one; certificates and tokens depend on it"
		answer = fmt.Sprintf("%v ahead of that of %s", r.offset.Round(time.Second), r.teller())
	}
	r.tell("clock", outcome, answer+"; "+set, remedy)
}

func (r *run) teller() string {
	if r.upgraded {
		return "the upstream"
	}
	return "the proxy"
}
