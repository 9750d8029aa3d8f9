package chips

import (
	"context"
	"errors"
	"time"

	"holdfast/sensors/bus"
)

// setUp does what ST's API does in VL53L0X_ResetDevice, DataInit, StaticInit, SetMeasurementTiming-
// BudgetMicroSeconds and PerformRefCalibration.
func (s *vl53l0xSensor) setUp(ctx context.Context, long bool) error {
	if err := s.restart(ctx); err != nil {
		return err
	}
	// DataInit: 2.8 V on the bus, standard mode, and the stop variable.
	pads, err := s.read(ctx, 0x89, 1) // VHV_CONFIG_PAD_SCL_SDA__EXTSUP_HV
	if err != nil {
		return err
	}
	if err := s.writeAll(ctx, [][2]byte{{0x89, pads[0] | 1}, {0x88, 0}, {0x80, 1}, {vl53l0xPage, 1}, {0x00, 0}}); err != nil {
		return err
	}
	stop, err := s.read(ctx, 0x91, 1)
	if err != nil {
		return err
	}
	s.stop = stop[0]
	if err := s.writeAll(ctx, [][2]byte{{0x00, 1}, {vl53l0xPage, 0}, {0x80, 0}}); err != nil {
		return err
	}
	checks, err := s.read(ctx, 0x60, 1) // MSRC_CONFIG_CONTROL: no check of the signal rate but in the final range
	if err != nil {
		return err
	}
	if err := s.writeAll(ctx, [][2]byte{{0x60, checks[0] | 0x12}, {vl53l0xSequence, 0xFF}}); err != nil {
		return err
	}
	if err := s.references(ctx); err != nil {
		return err
	}
	if err := s.writeAll(ctx, vl53l0xTuning); err != nil {
		return err
	}
	mux, err := s.read(ctx, 0x84, 1) // GPIO_HV_MUX_ACTIVE_HIGH
	if err != nil {
		return err
	}
	// An interrupt is a new sample, active low.
	if err := s.writeAll(ctx, [][2]byte{{0x0A, 4}, {0x84, mux[0] &^ 0x10}, {vl53l0xClear, 1}}); err != nil {
		return err
	}
	if err := s.writeAll(ctx, vl53l0xTiming(s.budget, long)); err != nil {
		return err
	}
	// Reference calibration: of the VHV, then of the phase.
	for _, step := range []struct{ sequence, flag byte }{{1, 0x40}, {2, 0}} {
		if err := s.calibrate(ctx, step.sequence, step.flag); err != nil {
			return err
		}
	}
	return s.write(ctx, vl53l0xSequence, vl53l0xSteps)
}

// restart holds the chip in reset until it does not answer with its id, so that nothing of an earlier
// measurement goes on.
func (s *vl53l0xSensor) restart(ctx context.Context) error {
	for _, step := range []struct{ run, id byte }{{0, 0}, {1, 0xEE}} {
		if err := s.write(ctx, 0xBF, step.run); err != nil { // SOFT_RESET_GO2_SOFT_RESET_N
			return err
		}
		// It boots in 1.2 ms (data sheet, power-up sequence), and may refuse its address meanwhile.
		tries := 0
		err := poll(ctx, 2*time.Millisecond, func() (bool, error) {
			b, err := s.read(ctx, vl53l0xModel, 1)
			if tries++; errors.Is(err, bus.ErrAbsent) && tries < 10 {
				return false, nil
			}
			return err == nil && b[0] == step.id, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// references enables as many of the good reference SPADs as ST has found right for this chip
// (get_info_from_device, set_reference_spads).
func (s *vl53l0xSensor) references(ctx context.Context) error {
	if err := s.writeAll(ctx, [][2]byte{{0x80, 1}, {vl53l0xPage, 1}, {0x00, 0}, {vl53l0xPage, 6}}); err != nil {
		return err
	}
	strobe, err := s.read(ctx, 0x83, 1)
	if err != nil {
		return err
	}
	if err := s.writeAll(ctx, [][2]byte{{0x83, strobe[0] | 4}, {vl53l0xPage, 7}, {0x81, 1}, {0x80, 1}, {0x94, 0x6B}, {0x83, 0}}); err != nil {
		return err
	}
	err = poll(ctx, time.Millisecond, func() (bool, error) {
		b, err := s.read(ctx, 0x83, 1)
		return err == nil && b[0] != 0, err
	})
	if err != nil {
		return err
	}
	if err := s.write(ctx, 0x83, 1); err != nil {
		return err
	}
	info, err := s.read(ctx, 0x92, 1)
	if err != nil {
		return err
	}
	if err := s.writeAll(ctx, [][2]byte{{0x81, 0}, {vl53l0xPage, 6}}); err != nil {
		return err
	}
	if strobe, err = s.read(ctx, 0x83, 1); err != nil {
		return err
	}
	if err := s.writeAll(ctx, [][2]byte{{0x83, strobe[0] &^ 4}, {vl53l0xPage, 1}, {0x00, 1}, {vl53l0xPage, 0}, {0x80, 0}}); err != nil {
		return err
	}
	good, err := s.read(ctx, 0xB0, 6) // GLOBAL_CONFIG_SPAD_ENABLES_REF_0 to 5
	if err != nil {
		return err
	}
	enabled := vl53l0xSpads([6]byte(good), int(info[0]&0x7F), info[0]&0x80 != 0)
	if err := s.writeAll(ctx, [][2]byte{
		{vl53l0xPage, 1}, {0x4F, 0}, {0x4E, 0x2C}, {vl53l0xPage, 0}, {0xB6, 0xB4},
	}); err != nil {
		return err
	}
	return s.write(ctx, append([]byte{0xB0}, enabled[:]...)...)
}

// vl53l0xSpads leaves the first count of the good SPADs in a map of 48. Those with an aperture begin at 12.
func vl53l0xSpads(good [6]byte, count int, aperture bool) (enabled [6]byte) {
	first := 0
	if aperture {
		first = 12
	}
	for i := first; i < 48 && count > 0; i++ {
		if bit := byte(1) << (i % 8); good[i/8]&bit != 0 {
			enabled[i/8] |= bit
			count--
		}
	}
	return enabled
}

// calibrate does one reference calibration (perform_single_ref_calibration).
func (s *vl53l0xSensor) calibrate(ctx context.Context, sequence, flag byte) error {
	if err := s.writeAll(ctx, [][2]byte{{vl53l0xSequence, sequence}, {vl53l0xStart, 1 | flag}}); err != nil {
		return err
	}
	err := poll(ctx, time.Millisecond, func() (bool, error) {
		b, err := s.read(ctx, vl53l0xInterrupt, 1)
		return err == nil && b[0]&7 != 0, err
	})
	if err != nil {
		return err
	}
	return s.writeAll(ctx, [][2]byte{{vl53l0xClear, 1}, {vl53l0xStart, 0}})
}

// vl53l0xTiming are the settings for a time budget (VL53L0X_set_measurement_timing_budget_micro_seconds,
// VL53L0X_set_vcsel_pulse_period): the final range has what the other steps leave.
func vl53l0xTiming(budget time.Duration, long bool) (w [][2]byte) {
	// The tuning has set pulse periods of 14 and 10 clocks, and timeouts of 38 and 151 macro periods.
	prePeriod, finalPeriod := 14, 10
	dss, pre := 38, 151
	dssTime, preTime := vl53l0xMicros(dss, prePeriod), vl53l0xMicros(pre, prePeriod)
	if long {
		prePeriod, finalPeriod = 18, 14
		pre = vl53l0xMacro(preTime, prePeriod)
		dss = min(vl53l0xMacro(dssTime, prePeriod), 256)
		// The final range takes signals from 0.1 MCPS on, in 128ths; the tuning wants 0.25.
		w = append(w, [2]byte{0x44, 0}, [2]byte{0x45, 13}, [2]byte{0x57, 0x50}, [2]byte{0x56, 0x08}, [2]byte{0x50, byte(prePeriod/2 - 1)})
		w = append(w, vl53l0xTimeout(0x51, pre)...)
		w = append(w, [2]byte{0x46, byte(dss - 1)},
			[2]byte{0x48, 0x48}, [2]byte{0x47, 0x08}, [2]byte{0x32, 0x03}, [2]byte{0x30, 0x07},
			[2]byte{vl53l0xPage, 1}, [2]byte{0x30, 0x20}, [2]byte{vl53l0xPage, 0}, [2]byte{0x70, byte(finalPeriod/2 - 1)})
	}
	// Overheads in µs: start 1320, end 960, twice 690 for the SPAD selection, 660 and 550 for the ranges.
	left := int(budget.Microseconds()) - 1320 - 960 - 2*(dssTime+690) - (preTime + 660) - 550
	return append(w, vl53l0xTimeout(0x71, vl53l0xMacro(left, finalPeriod)+pre)...)
}

// A macro period is 2304 pulse periods, of clocks of 1.655 ns.
func vl53l0xMacroNanos(clocks int) int { return (2304*clocks*1655 + 500) / 1000 }

func vl53l0xMicros(macro, clocks int) int {
	ns := vl53l0xMacroNanos(clocks)
	return (macro*ns + ns/2) / 1000
}

func vl53l0xMacro(micros, clocks int) int {
	ns := vl53l0xMacroNanos(clocks)
	return (micros*1000 + ns/2) / ns
}

// vl53l0xTimeout writes a timeout: its lower byte times two to the power of the upper one, and one more.
func vl53l0xTimeout(reg byte, macro int) [][2]byte {
	v, shift := macro-1, byte(0)
	for v > 255 {
		v, shift = v>>1, shift+1
	}
	return [][2]byte{{reg, shift}, {reg + 1, byte(v)}}
}

// vl53l0xTuning is ST's DefaultTuningSettings (vl53l0x_tuning.h): pairs of a register and its value.
var vl53l0xTuning = [][2]byte{
	{0xFF, 0x01}, {0x00, 0x00}, {0xFF, 0x00}, {0x09, 0x00}, {0x10, 0x00}, {0x11, 0x00}, {0x24, 0x01},
	{0x25, 0xFF}, {0x75, 0x00}, {0xFF, 0x01}, {0x4E, 0x2C}, {0x48, 0x00}, {0x30, 0x20}, {0xFF, 0x00},
	{0x30, 0x09}, {0x54, 0x00}, {0x31, 0x04}, {0x32, 0x03}, {0x40, 0x83}, {0x46, 0x25}, {0x60, 0x00},
	{0x27, 0x00}, {0x50, 0x06}, {0x51, 0x00}, {0x52, 0x96}, {0x56, 0x08}, {0x57, 0x30}, {0x61, 0x00},
	{0x62, 0x00}, {0x64, 0x00}, {0x65, 0x00}, {0x66, 0xA0}, {0xFF, 0x01}, {0x22, 0x32}, {0x47, 0x14},
	{0x49, 0xFF}, {0x4A, 0x00}, {0xFF, 0x00}, {0x7A, 0x0A}, {0x7B, 0x00}, {0x78, 0x21}, {0xFF, 0x01},
	{0x23, 0x34}, {0x42, 0x00}, {0x44, 0xFF}, {0x45, 0x26}, {0x46, 0x05}, {0x40, 0x40}, {0x0E, 0x06},
	{0x20, 0x1A}, {0x43, 0x40}, {0xFF, 0x00}, {0x34, 0x03}, {0x35, 0x44}, {0xFF, 0x01}, {0x31, 0x04},
	{0x4B, 0x09}, {0x4C, 0x05}, {0x4D, 0x04}, {0xFF, 0x00}, {0x44, 0x00}, {0x45, 0x20}, {0x47, 0x08},
	{0x48, 0x28}, {0x67, 0x00}, {0x70, 0x04}, {0x71, 0x01}, {0x72, 0xFE}, {0x76, 0x00}, {0x77, 0x00},
	{0xFF, 0x01}, {0x0D, 0x01}, {0xFF, 0x00}, {0x80, 0x01}, {0x01, 0xF8}, {0xFF, 0x01}, {0x8E, 0x01},
	{0x00, 0x01}, {0xFF, 0x00}, {0x80, 0x00},
}
