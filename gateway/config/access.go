package config

import (
	"errors"
	"fmt"
	"slices"

	"holdfast/broker/auth"
)

// User is a client with a password.
type User struct {
	Name         string // unique, without ':'
	PasswordHash Secret // what auth.CheckHash takes
}

// accessKeys are the keys of section broker about users and rules.
func (l *loader) accessKeys(b *Broker) []key {
	return []key{
		{"users", "", "Clients with a password. As soon as there is one, or a rule, everything is forbidden that no rule allows.",
			live(overlaid(l, "a list of users", "name", &l.users, unchanged, userKeys))},
		{"password_file", "", "File with further users, a line `NAME:HASH` for each, as `holdfast passwd` and mosquitto_passwd write it.", live(l.file(&b.PasswordFile))},
		{"groups", "", "Names for several users, for rules.", live(overlaid(l, "a list of groups", "name", &l.groups, unchanged, l.groupKeys))},
		{"acl", "", "What clients may do. Rules that deny win; the order does not matter.", live(replaced(l, "a list of rules", &b.ACL, l.aclRule))},
		{"acl_file", "", "File with further rules, in the form of Mosquitto's acl_file.", live(l.file(&b.ACLFile))},
	}
}

func userKeys(u *User) *table {
	return newTable(
		key{"name", required, "User name, without `:`.", text(&u.Name, "a name without ':', that does not begin with '#'",
			func(s string) bool { return auth.CheckUser(s) == nil })},
		key{"password_hash", required, "What `holdfast passwd` prints, best as `${file:PATH}`. Never printed.", passwordHash(&u.PasswordHash)},
	)
}

func (l *loader) groupKeys(g *auth.Group) *table {
	return newTable(
		key{"name", required, "Name in rules.", packed(&g.Name, "text of 1 to 65535 bytes")},
		key{"users", required, "Its members.", replaced(l, "a list of users' names", &g.Users,
			func(to *string) kind { return packed(to, "a user's name") })},
	)
}

// aclRule is one entry of broker.acl. It is replaced as a whole, so it is checked at once.
func (l *loader) aclRule(r *auth.Rule) kind {
	who := func(to *string) kind { return packed(to, "text of 1 to 65535 bytes") }
	t := newTable(
		key{"topic", required, "Topics, as a filter in which `%u`, `%c` and `%cn` stand for the client's user, identifier and certificate's common name.",
			text(&r.Topic, "a topic filter, not shared, in which %u, %c and %cn stand for the client's", func(s string) bool { return auth.CheckTopic(s) == nil })},
		key{"access", required, "What is allowed: `read` (with subscribing), `write`, `readwrite`, `subscribe` alone; or forbidden: `deny`.", access(&r.Access)},
		key{"user", "", "Only for this user; `\"*\"` for any.", who(&r.User)},
		key{"group", "", "Only for users of this group.", who(&r.Group)},
		key{"client", "", "Only for this client identifier, which any client can claim; `*` at its end stands for any rest.", who(&r.Client)},
		key{"certificate", "", "Only with a certificate of this common name; `\"*\"` for any.", who(&r.CN)},
		key{"anonymous", "false", "Only for clients with neither a user nor a certificate.", boolean(&r.Anonymous)},
	)
	k := l.section(t)
	k.decode = func(f field) {
		if !l.mapping(f, t) {
			return
		}
		l.require(f, t)
		if r.Topic != "" && r.Access != 0 {
			if err := r.Check(); err != nil {
				l.errorf(f, "%v", err)
			}
		}
		l.rules = append(l.rules, placed{*r, t.given})
	}
	return k
}

// placed is a rule and where its keys are, for the checks on all files together.
type placed struct {
	auth.Rule
	given map[string]field
}

var accesses = []struct {
	name string
	auth.Access
}{
	{"read", auth.Read}, {"write", auth.Write}, {"readwrite", auth.ReadWrite}, {"subscribe", auth.Subscribe}, {"deny", auth.Deny},
}

func access(to *auth.Access) kind {
	var names []string
	for _, a := range accesses {
		names = append(names, a.name)
	}
	var name string
	k := choice(&name, names...)
	parse := k.parse
	k.parse = func(s string) error {
		if err := parse(s); err != nil {
			return err
		}
		*to = accesses[slices.Index(names, name)].Access
		return nil
	}
	return k
}

func passwordHash(to *Secret) kind {
	return kind{want: "a password hash of `holdfast passwd`", types: []string{"!!str"}, secret: true, parse: func(s string) error {
		if err := auth.CheckHash(s); err != nil {
			return fmt.Errorf("which %w", err)
		}
		*to = Secret(s)
		return nil
	}}
}

var errNoRules = errors.New(`without rules no client could publish or read anything: add broker.acl, such as [{topic: "#", access: readwrite}], or acl_file`)

// finishAccess checks users, groups and rules against each other.
func (l *loader) finishAccess() {
	b := &l.config.Broker
	var users, groups []string
	for _, e := range l.users {
		l.require(e.at, e.table)
		b.Users = append(b.Users, e.value)
		users = append(users, e.value.Name)
	}
	known := func(at field, name string) {
		if name != "" && name != "*" && b.PasswordFile == "" && !slices.Contains(users, name) {
			l.errorf(at, "there is no user %q, %s", name, nearest(name, users))
		}
	}
	for _, e := range l.groups {
		l.require(e.at, e.table)
		b.Groups = append(b.Groups, e.value)
		groups = append(groups, e.value.Name)
		for _, name := range e.value.Users {
			known(e.given["users"], name)
		}
	}
	for _, r := range l.rules {
		known(r.given["user"], r.User)
		if r.Group != "" && !slices.Contains(groups, r.Group) {
			l.errorf(r.given["group"], "there is no group %q, %s", r.Group, nearest(r.Group, groups))
		}
	}
	if len(b.ACL) > 0 || b.ACLFile != "" {
		return
	}
	for _, name := range []string{"users", "password_file"} {
		if at, given := l.broker.given[name]; given && (name != "users" || len(b.Users) > 0) {
			l.errorf(at, "%v", errNoRules)
			return
		}
	}
}
