package chips

import (
	"encoding/binary"
	"math"
)

// vocIndex is Sensirion's gas index algorithm for VOC, as published in its repository
// gas-index-algorithm, in floating point. It learns what the usual air is, and its usual
// variation, over 12 hours, and maps the signal on a scale on which 100 is usual and 500 the most.
//
// At first there is no index for 45 s, for about an hour it learns fast, and it is right after a day. What it has learned
// can be kept, and go on in another one: state and restore.
type vocIndex struct {
	interval float64 // between two values, in s

	uptime float64 // s, until the blackout ends
	sraw   float64 // ticks above vocSrawMin
	index  float64

	// The estimator of mean and variance.
	initialized           bool
	mean, offset, std     float64
	uptimeGamma           float64 // s
	uptimeGating          float64 // s
	gatingMinutes         float64
	gammaMean, gammaVar   float64 // steady state
	gammaMean0, gammaVar0 float64 // while learning

	// The adaptive low-pass filter.
	filtering  bool
	x1, x2, x3 float64
}

// The published parameters for VOC.
const (
	vocBlackout       = 45.0 // s
	vocGain           = 230.0
	vocStdInitial     = 50.0
	vocStdBonus       = 220.0
	vocTauMean        = 12.0 // h
	vocTauVariance    = 12.0 // h
	vocTauInitialMean = 20.0 // s
	vocTauInitialVar  = 2500.0
	vocInitMean       = 3600 * 0.75 // s
	vocInitVariance   = 3600 * 1.45 // s
	vocInitTransition = 0.01
	vocGating         = 340.0
	vocGatingInitial  = 510.0
	vocGatingSlope    = 0.09
	vocGatingMax      = 60 * 3.0 // minutes
	vocGatingRatio    = 0.3
	vocSigmoidL       = 500.0
	vocSigmoidK       = -0.0065
	vocSigmoidX0      = 213.0
	vocTauFast        = 20.0  // s
	vocTauSlow        = 500.0 // s
	vocAlpha          = -0.2
	vocSrawMin        = 20000
	vocGammaScale     = 64.0
	vocGammaMeanScale = 8.0
	vocUptimeMax      = 32767.0 // s
)

func newVOCIndex(interval float64) *vocIndex {
	hours := interval / 3600
	return &vocIndex{
		interval:   interval,
		std:        vocStdInitial,
		gammaMean:  vocGammaMeanScale * vocGammaScale * hours / (vocTauMean + hours),
		gammaVar:   vocGammaScale * hours / (vocTauVariance + hours),
		gammaMean0: vocGammaMeanScale * vocGammaScale * interval / (vocTauInitialMean + interval),
		gammaVar0:  vocGammaScale * interval / (vocTauInitialVar + interval),
	}
}

// numbers are all that it has learned.
func (v *vocIndex) numbers() []*float64 {
	return []*float64{&v.uptime, &v.sraw, &v.index, &v.mean, &v.offset, &v.std, &v.uptimeGamma, &v.uptimeGating, &v.gatingMinutes, &v.x1, &v.x2, &v.x3}
}

// vocStateSize is the size of a state, in bytes.
const vocStateSize = 8 * 12

// state is what it has learned, once it is initialized: its numbers, of 8 bytes each. The interval is no part of it.
func (v *vocIndex) state() []byte {
	var b []byte
	for _, n := range v.numbers() {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(*n))
	}
	return b
}

// restore goes on with a state. One with a number that is none is left alone.
func (v *vocIndex) restore(b []byte) {
	w := *v
	for i, n := range w.numbers() {
		*n = math.Float64frombits(binary.BigEndian.Uint64(b[8*i:]))
		if math.IsNaN(*n) || math.IsInf(*n, 0) {
			return
		}
	}
	w.initialized, w.filtering = true, true
	*v = w
}

// next takes the raw signal of an interval and returns the index, 1 to 500, or 0 in the blackout.
func (v *vocIndex) next(raw uint16) int {
	if v.uptime <= vocBlackout {
		v.uptime += v.interval
		return 0
	}
	if raw > 0 && raw < 65000 {
		v.sraw = float64(min(max(int(raw), vocSrawMin+1), vocSrawMin+32767) - vocSrawMin)
	}
	v.index = max(v.lowpass(vocScale(v.model())), 0.5)
	if v.sraw > 0 {
		v.estimate()
	}
	return int(v.index + 0.5)
}

// model is how far the signal is from the mean, in deviations. More gas means less signal.
func (v *vocIndex) model() float64 {
	return (v.sraw - (v.mean + v.offset)) / -(v.std + vocStdBonus) * vocGain
}

// vocScale maps a deviation to the scale of the index.
func vocScale(x float64) float64 {
	k := vocSigmoidK * (x - vocSigmoidX0)
	switch {
	case k < -50:
		return vocSigmoidL
	case k > 50:
		return 0
	}
	return vocSigmoidL / (1 + math.Exp(k))
}

// lowpass smooths more the closer its fast and its slow average are.
func (v *vocIndex) lowpass(x float64) float64 {
	if !v.filtering {
		v.filtering = true
		v.x1, v.x2, v.x3 = x, x, x
	}
	mix := func(old, tau float64) float64 {
		a := v.interval / (tau + v.interval)
		return (1-a)*old + a*x
	}
	v.x1, v.x2 = mix(v.x1, vocTauFast), mix(v.x2, vocTauSlow)
	tau := (vocTauSlow-vocTauFast)*math.Exp(vocAlpha*math.Abs(v.x1-v.x2)) + vocTauFast
	v.x3 = mix(v.x3, tau)
	return v.x3
}

// estimate learns from the signal.
func (v *vocIndex) estimate() {
	if !v.initialized {
		v.initialized = true
		v.offset, v.mean = v.sraw, 0
		return
	}
	if v.mean >= 100 || v.mean <= -100 {
		v.offset, v.mean = v.offset+v.mean, 0
	}
	gammaMean, gammaVar := v.gammas()
	delta := (v.sraw - v.offset - v.mean) / vocGammaScale
	scaling := 1.0
	if c := v.std + math.Abs(delta); c > 1440 {
		scaling = c / 1440 * (c / 1440)
	}
	v.std = math.Sqrt(scaling*(vocGammaScale-gammaVar)) *
		math.Sqrt(v.std*(v.std/(vocGammaScale*scaling))+gammaVar*delta/scaling*delta)
	v.mean += gammaMean * delta / vocGammaMeanScale
}

// gammas are how fast mean and variance follow: fast at first, and hardly at all while the index is
// high (gating), unless that lasts too long.
func (v *vocIndex) gammas() (mean, variance float64) {
	if v.uptimeGamma < vocUptimeMax-v.interval {
		v.uptimeGamma += v.interval
	}
	if v.uptimeGating < vocUptimeMax-v.interval {
		v.uptimeGating += v.interval
	}
	learnMean := vocSigmoid(v.uptimeGamma, vocInitMean, vocInitTransition)
	learnVar := vocSigmoid(v.uptimeGamma, vocInitVariance, vocInitTransition)
	gate := func(duration float64) float64 {
		threshold := vocGating + (vocGatingInitial-vocGating)*vocSigmoid(v.uptimeGating, duration, vocInitTransition)
		return vocSigmoid(v.index, threshold, vocGatingSlope)
	}
	gateMean, gateVar := gate(vocInitMean), gate(vocInitVariance)
	mean = gateMean * (v.gammaMean + (v.gammaMean0-v.gammaMean)*learnMean)
	variance = gateVar * (v.gammaVar + (v.gammaVar0-v.gammaVar)*(learnVar-learnMean))
	v.gatingMinutes = max(0, v.gatingMinutes+v.interval/60*((1-gateMean)*(1+vocGatingRatio)-vocGatingRatio))
	if v.gatingMinutes > vocGatingMax {
		v.uptimeGating = 0
	}
	return mean, variance
}

// vocSigmoid falls from 1 to 0 around x0.
func vocSigmoid(x, x0, k float64) float64 {
	z := k * (x - x0)
	switch {
	case z < -50:
		return 1
	case z > 50:
		return 0
	}
	return 1 / (1 + math.Exp(z))
}
