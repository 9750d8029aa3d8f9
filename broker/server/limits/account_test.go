package limits

import (
	"fmt"
	"testing"
)

// TestShareLeavesRoom: users who take all that they may, one after the other, leave something for one who has little.
func TestShareLeavesRoom(t *testing.T) {
	for _, all := range []int64{8, 20, 300, 1000, 10_000, 4 << 20} {
		var a Account
		a.Limit(Filters, all, 50)
		for i := range 5 {
			user := fmt.Sprint("greedy", i)
			for a.Take(user, 1+all/1000) == "" {
			}
			if i == 0 && a.Of(user) < all/2-all/1000-1 {
				t.Errorf("of %d, the first user gets %d", all, a.Of(user))
			}
			if i == 1 && a.Of(user) < all/4 {
				t.Errorf("of %d, the second user gets %d", all, a.Of(user))
			}
			if all >= 300 && i < 3 && a.Take(fmt.Sprint("little", i), all/128) != "" {
				t.Errorf("of %d, %d users leave nothing", all, i+1)
			}
		}
		if a.Take("greedy0", 1) == "" {
			t.Errorf("of %d, a user gets more than its share", all)
		}
	}
}
