package simulated

import (
	"fmt"
	"strings"
	"syscall"

	"holdfast/sensors/bus"
)

// pca9548Model is a Texas Instruments TCA9548A or NXP PCA9548A (data sheet SCPS143, section "Control
// register"). What is behind a channel is placed on a bus named for it: "simulated/0x70/3".
func pca9548Model() *Model {
	m := &Model{Name: "pca9548", Buses: []bus.Kind{bus.I2CKind}, Output: true, New: func(*Chip) Registers { return &pca9548{} }}
	for i := range uint16(8) {
		m.Addresses = append(m.Addresses, 0x70+i)
	}
	return m
}

type pca9548 struct{ control byte }

func (m *pca9548) reset() { m.control = 0 }

func (m *pca9548) write(b []byte) error {
	m.control = b[len(b)-1]
	return nil
}

func (m *pca9548) read(b []byte) error {
	for i := range b {
		b[i] = m.control
	}
	return nil
}

// reach returns the chip that answers to an address on a bus: one on it, or one behind a channel that
// is connected. If there are two, neither is understood.
func (p *Pi) reach(busName string, addr uint16) (*Chip, error) {
	found := p.Chip(busName, addr)
	for mux := uint16(0x70); mux <= 0x77; mux++ {
		c := p.Chip(busName, mux)
		if c == nil {
			continue
		}
		m, ok := c.regs.(*pca9548)
		if !ok {
			continue
		}
		control := byte(0)
		if c.begin() {
			control = m.control
		}
		c.mu.Unlock()
		for ch := range 8 {
			if control>>ch&1 == 0 {
				continue
			}
			if behind := p.Chip(fmt.Sprintf("%s/%#x/%d", busName, mux, ch), addr); behind != nil {
				if found != nil {
					return nil, syscall.EIO
				}
				found = behind
			}
		}
	}
	return found, nil
}

// placeMux puts the multiplexer there whose channel a bus is, unless it is there already.
func (p *Pi) placeMux(busName string) error {
	parent, rest, found := strings.Cut(busName, "/0x")
	if !found {
		return nil
	}
	var mux uint16
	if _, err := fmt.Sscanf(rest, "%x/", &mux); err != nil {
		return fmt.Errorf("simulated: no multiplexer's channel is called %q", busName)
	}
	if p.Chip(parent, mux) != nil {
		return nil
	}
	_, err := p.Place("pca9548", parent, mux)
	return err
}
