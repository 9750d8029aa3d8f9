package sensors

import (
	"fmt"

	"holdfast/sensors/bus"
)

// Place is where an entry of the configuration is, for the function Claims of its driver's row.
type Place struct {
	Bus     string
	Address uint16 // on I2C, with the driver's default filled in
	Options map[string]any
}

// On is the place in words: what follows "on" in "channel 3 on i2c-1, address 0x40".
func (p Place) On() string { return fmt.Sprintf("%s, address %#02x", p.Bus, p.Address) }

// Claim is something of the machine that an entry of the configuration needs. Two entries have the same thing if What is
// the same text.
type Claim struct {
	What string // in words, such as "GPIO line 17"
	// Value is what it is set to by everybody who needs it, such as "50 Hz": they can share it if that is the same. Empty: only
	// one can have it.
	Value string
	// Of is a claim for the whole that this is a part of; empty if nothing claims wholes.
	Of     string
	Option string // the option that names it, for messages; may be empty
	Wired  bool   // it is so by the machine's wiring, and no option changes that
}

// Against returns why two claims cannot be together, of who made the first one; "" if they can.
func (c Claim) Against(first Claim, who string) string {
	switch {
	case c.Of != "" && c.Of == first.What:
		return fmt.Sprintf("%s is read by %s, which reads %s: remove one of them", c.What, who, first.What)
	case first.Of != "" && first.Of == c.What:
		return fmt.Sprintf("%s has %s: name those that are read here", who, first.What)
	case c.What != first.What, c.Value != "" && c.Value == first.Value:
		return ""
	case first.Wired:
		return fmt.Sprintf("%s is %s, which %s needs: choose another one", c.What, first.Value, who)
	case c.Wired:
		return fmt.Sprintf("%s is %s, and %s has it: choose another one there", c.What, c.Value, who)
	case c.Value != "" && first.Value != "":
		return fmt.Sprintf("%s is %s here, and %s for %s: give all the same", c.What, c.Value, first.Value, who)
	case first.Value != "":
		return fmt.Sprintf("%s is %s, which %s needs: choose another one", c.What, first.Value, who)
	case c.Value != "":
		return fmt.Sprintf("%s is %s, and %s has it: choose another one there", c.What, c.Value, who)
	}
	return fmt.Sprintf("%s has %s already, and only one can: choose another one", who, c.What)
}

// headerLines are more than any Pi's GPIO chip of the header has. Its pins are lines 0 to 27.
const headerLines = 58

// ClaimLines is the Claims of a driver whose options of these names are GPIO lines, or lists of them. Negative ones are none.
// as is what each line is, for drivers that may share one, or nil.
func ClaimLines(as func(Place) string, options ...string) func(Place) ([]Claim, error) {
	return func(p Place) (all []Claim, err error) {
		chip, _ := p.Options["chip"].(string)
		value := ""
		if as != nil {
			value = as(p)
		}
		for _, o := range options {
			lines, _ := p.Options[o].([]int64)
			if n, ok := p.Options[o].(int64); ok {
				lines = []int64{n}
			}
			for _, n := range lines {
				if chip == "" && n >= headerLines {
					return nil, fmt.Errorf("%s: got %d, the Pi's header has lines 0 to 27: choose one of them, or name another GPIO chip with chip", o, n)
				}
				if n >= 0 {
					all = append(all, Claim{What: LineName(p.Bus, chip, int(n)), Value: value, Option: o})
				}
			}
		}
		return all, nil
	}
}

// LineName is what claims call a line, of the chip with a label, or of the Pi's header if that is empty.
func LineName(busName, chip string, n int) string {
	what := fmt.Sprintf("GPIO line %d", n)
	if chip != "" {
		what += " of " + chip
	}
	if bus.IsSimulated(busName) {
		what += " of " + busName
	}
	return what
}

// ClaimPin is the Claims of a driver for one pin of a chip, by its option pin.
func ClaimPin(p Place) ([]Claim, error) {
	return []Claim{{What: fmt.Sprintf("pin %v of the chip on %s", p.Options["pin"], p.On()), Option: "pin"}}, nil
}

// HeaderClaims are the lines of the Pi's header that a bus is wired to.
func HeaderClaims(busName string) (all []Claim) {
	for _, l := range bus.HeaderLines(busName) {
		all = append(all, Claim{What: LineName("", "", l.Offset), Value: l.Name, Option: "bus", Wired: true})
	}
	return all
}

// AllThermometers is the claim of a driver that reads whatever is on the 1-Wire bus, and what each thermometer is a part of.
func AllThermometers(busName string) string {
	if bus.IsSimulated(busName) {
		return "all thermometers of " + busName
	}
	return "all thermometers of the 1-Wire bus"
}

// ClaimThermometer is the claim for one on the kernel's 1-Wire bus; without an id it is the only one there is.
func ClaimThermometer(busName, id, option string) Claim {
	what := "1-Wire thermometer " + id
	if id == "" {
		what = "the only 1-Wire thermometer"
	}
	if bus.IsSimulated(busName) {
		what += " of " + busName
	}
	return Claim{What: what, Of: AllThermometers(busName), Option: option}
}

// ClaimsAt returns what an entry at a place needs.
func (s *Spec) ClaimsAt(busName string, address uint16, options map[string]any) ([]Claim, error) {
	if address == 0 && len(s.Addresses) > 0 {
		address = s.Addresses[0]
	}
	all := HeaderClaims(busName)
	if s.Claims == nil {
		return all, nil
	}
	more, err := s.Claims(Place{Bus: busName, Address: address, Options: options})
	return append(all, more...), err
}
