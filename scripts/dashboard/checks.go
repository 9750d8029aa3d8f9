package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// output finds the card of an output, sensor or bridge by its heading.
func card(name string) string {
	return `[...document.querySelectorAll("article")].find((a) => a.querySelector("h3").textContent === "` + name + `")`
}

func (b *browser) firstPaint() error {
	if err := b.open("/"); err != nil {
		return err
	}
	if err := b.until("values", `document.querySelectorAll(".value .number").length >= 6`); err != nil {
		return err
	}
	ms, err := eval[float64](b, `performance.getEntriesByName("first-contentful-paint")[0].startTime`)
	if err != nil {
		return err
	}
	ready, err := eval[float64](b, `performance.now()`)
	report("first paint", "%.0f ms, with values within %.0f ms", ms, ready)
	return err
}

func (b *browser) liveUpdate() error {
	value := `[...` + card("air") + `.querySelectorAll(".number")].map((e) => e.textContent).join()`
	was, err := eval[string](b, value)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := b.until("another value", fmt.Sprintf("%s !== %q", value, was)); err != nil {
		return err
	}
	report("live update", "%.1f s after looking, of a sensor that is read each second", time.Since(begun).Seconds())
	return b.until("a line beside the value", card("air")+`.querySelector(".spark-line").hasAttribute("d")`)
}

func (b *browser) names() error {
	nameless, err := eval[[]string](b, `[...document.querySelectorAll("button, input, select, a")].filter((e) =>
		!e.textContent.trim() && !e.ariaLabel && !e.labels?.length && !e.getAttribute("aria-label")).map((e) => e.outerHTML)`)
	if err == nil && len(nameless) > 0 {
		err = fmt.Errorf("without a name: %s", nameless)
	}
	report("controls", "all have names")
	return err
}

func (b *browser) switchOutput(s *site) error {
	pump := card("pump")
	toggle := pump + `.querySelector(".toggle")`
	if err := b.until("the switch", toggle+` && !`+toggle+`.disabled`); err != nil {
		return err
	}
	b.picture("now-off")
	begun := time.Now()
	if _, err := eval[bool](b, toggle+`.click() || true`); err != nil {
		return err
	}
	if err := b.until("the switch to be on", toggle+`.getAttribute("aria-checked") === "true" && `+pump+`.querySelector(".result").textContent.startsWith("Done")`); err != nil {
		return err
	}
	took := time.Since(begun)
	state, err := s.state("pump")
	if err != nil {
		return err
	}
	if !strings.Contains(state, `"value":1`) || !strings.Contains(state, `"why":"dashboard"`) {
		return fmt.Errorf("other clients of the broker see %s", state)
	}
	// Off again with the keyboard.
	if _, err := eval[bool](b, toggle+`.focus() || true`); err != nil {
		return err
	}
	if err := chromedp.Do(b.ctx, chromedp.KeyEvent(" ")); err != nil {
		return err
	}
	if err := b.until("the switch to be off", toggle+`.getAttribute("aria-checked") === "false"`); err != nil {
		return err
	}
	report("output switched", "answered and shown in %.2f s; other clients see it; space bar switches it back", took.Seconds())
	return nil
}

func (b *browser) refusal() error {
	for _, name := range []string{"pump", "drain"} { // which are interlocked
		toggle := card(name) + `.querySelector(".toggle")`
		if err := b.until("a switch", `!`+toggle+`.disabled`); err != nil {
			return err
		}
		if _, err := eval[bool](b, toggle+`.click() || true`); err != nil {
			return err
		}
		if err := b.until("an answer", card(name)+`.querySelector(".result").textContent.match(/Done|Refused/)`); err != nil {
			return err
		}
	}
	text, err := eval[string](b, card("drain")+`.querySelector(".result").textContent`)
	if err == nil && (!strings.HasPrefix(text, "Refused: ") || !strings.Contains(text, "pump")) {
		err = fmt.Errorf("got %q", text)
	}
	if err == nil {
		err = b.until("the pump to be shown on", card("pump")+`.querySelector(".toggle").getAttribute("aria-checked") === "true"`)
	}
	report("refusal", "%s", text)
	b.picture("now")
	return err
}

func (b *browser) chart() error {
	if _, err := eval[bool](b, card("air")+`.querySelector(".value").click() || true`); err != nil {
		return err
	}
	if err := b.until("the chart", `document.querySelector("#chart[open] canvas") && document.getElementById("chart-note").textContent.includes("lowest")`); err != nil {
		return err
	}
	if _, err := eval[bool](b, `document.querySelector('#spans [data-hours="1"]').click() || true`); err != nil {
		return err
	}
	b.picture("chart")
	if err := chromedp.Do(b.ctx, chromedp.KeyEvent(kb.Escape)); err != nil {
		return err
	}
	report("chart", "opens, and Escape closes it")
	return b.until("the chart to be closed", `!document.querySelector("#chart[open]")`)
}

// outage takes the upstream away for as long as it takes to fill the journal, and brings it back.
func (b *browser) outage(s *site) error {
	if err := b.view("delivery"); err != nil {
		return err
	}
	cloud := card("cloud")
	pill := cloud + `.querySelector(".pill").textContent`
	connected := pill + `.startsWith("connected") && ` + cloud + `.querySelector(".number").textContent.length <= 2`
	if err := b.until("a bridge that is not connected", pill+`.startsWith("not connected")`); err != nil {
		return err
	}
	if err := s.start("upstream", s.upstreamConfig()); err != nil {
		return err
	}
	if err := b.until("the bridge to be connected and its backlog gone", connected); err != nil {
		return err
	}
	s.stop("upstream")
	if err := b.until("the outage", pill+`.startsWith("not connected") && `+cloud+`.querySelectorAll(".outages li").length >= 2`); err != nil {
		return err
	}
	if err := b.until("no loss", `document.getElementById("losses").textContent === "Nothing was lost."`); err != nil {
		return err
	}
	if err := s.flood(); err != nil {
		return err
	}
	row := `[...document.querySelectorAll("#losses tbody tr")].map((tr) => [...tr.cells].map((td) => td.textContent).join(" | ")).find((row) => row.includes("bridge/cloud"))`
	if err := b.until("the loss, in the list and on the timeline", row+` && `+cloud+`.querySelector(".timeline .loss")`); err != nil {
		return err
	}
	loss, err := eval[string](b, row)
	if err == nil && !strings.Contains(loss, "the journal was full") {
		err = fmt.Errorf("the loss is shown as %q", loss)
	}
	if err != nil {
		return err
	}
	if err := s.start("upstream", s.upstreamConfig()); err != nil {
		return err
	}
	if err := b.until("the end of the outage", connected); err != nil {
		return err
	}
	text, err := eval[string](b, cloud+`.querySelector(".outages li").textContent`)
	if err != nil {
		return err
	}
	if strings.Contains(text, "now") {
		return fmt.Errorf("an outage that is over is shown as %q", text)
	}
	drawn, err := eval[[]float64](b, `[...`+cloud+`.querySelectorAll(".timeline .down")].map((e) => e.getBoundingClientRect().width)`)
	if err != nil {
		return err
	}
	if len(drawn) < 2 || slices.Min(drawn) < 1 {
		return fmt.Errorf("on the timeline are outages of %v pixels, want two that can be seen", drawn)
	}
	report("outage", "%s", text)
	report("loss", "%s", loss)
	b.picture("delivery")
	return nil
}

func (b *browser) otherViews() error {
	for view, want := range map[string]string{
		"clients": `document.querySelector("#clients dd")`,
		"log":     `document.querySelectorAll("#log li").length > 3`,
		"setup":   `document.getElementById("config").textContent.includes("driver: bme280")`,
	} {
		if err := b.view(view); err != nil {
			return err
		}
		if err := b.until(view, want); err != nil {
			return err
		}
		b.picture(view)
	}
	secret, err := eval[bool](b, `document.documentElement.innerHTML.includes("hunter22")`)
	if err == nil && secret {
		err = errors.New("a password is shown")
	}
	report("clients, log, configuration", "are shown, without secrets")
	return err
}

func (b *browser) dark() error {
	ground := `getComputedStyle(document.body).backgroundColor`
	light, err := eval[string](b, ground)
	if err != nil {
		return err
	}
	if err := errors.Join(b.scheme("dark"), b.view("now")); err != nil {
		return err
	}
	dark, err := eval[string](b, ground)
	if err != nil {
		return err
	}
	if dark == light {
		return fmt.Errorf("the ground is %s in the light and in the dark", light)
	}
	b.picture("dark")
	if err := b.view("delivery"); err != nil {
		return err
	}
	b.picture("dark-delivery")
	report("dark", "ground %s instead of %s", dark, light)
	return b.scheme("light")
}

func (b *browser) phone() error {
	for _, width := range []int64{320, 390} {
		if err := chromedp.Do(b.ctx, chromedp.EmulateViewport(width, 800, chromedp.EmulateMobile)); err != nil {
			return err
		}
		for _, view := range []string{"now", "delivery", "clients", "log", "setup"} {
			if err := b.view(view); err != nil {
				return err
			}
			wide, err := eval[float64](b, `document.documentElement.scrollWidth - innerWidth`)
			if err != nil {
				return err
			}
			if wide > 0 {
				return fmt.Errorf("view %s is %.0f pixels wider than a screen of %d", view, wide, width)
			}
			b.picture(fmt.Sprintf("phone-%d-%s", width, view))
		}
	}
	report("phone", "320 and 390 pixels wide: no view scrolls sideways")
	return errors.Join(b.view("now"), chromedp.Do(b.ctx, chromedp.EmulateViewport(1280, 900)))
}

func (b *browser) goneAndBack(s *site) error {
	b.expect("ERR_CONNECTION_REFUSED")
	b.expect("ERR_INCOMPLETE_CHUNKED_ENCODING")
	b.expect("ERR_EMPTY_RESPONSE")
	s.stop("gateway")
	if err := b.until("the page to say that the gateway is gone", `document.getElementById("live").textContent.includes("no connection")`); err != nil {
		return err
	}
	if err := s.start("gateway", s.gateway(false)); err != nil {
		return err
	}
	report("gateway restarted", "the page says so, and goes on by itself")
	return b.until("the page to be live again", `document.getElementById("live").textContent === "live"`)
}

// weight sums up what the page and its chart are made of.
func (b *browser) weight() error {
	if err := b.open("/"); err != nil {
		return err
	}
	if err := b.until("values", `document.querySelectorAll(".value").length >= 6`); err != nil {
		return err
	}
	if err := b.chart(); err != nil {
		return err
	}
	const files = `[...performance.getEntriesByType("resource"), ...performance.getEntriesByType("navigation")].filter((e) => !e.name.includes("/api/"))`
	plain, err := eval[float64](b, files+`.reduce((sum, e) => sum + e.decodedBodySize, 0)`)
	if err != nil {
		return err
	}
	sent, err := eval[float64](b, files+`.reduce((sum, e) => sum + e.encodedBodySize, 0)`)
	if err != nil {
		return err
	}
	report("weight", "%.0f kB in all with the chart library, %.0f kB compressed", plain/1000, sent/1000)
	if plain > 300_000 {
		return fmt.Errorf("%.0f bytes, want at most 300,000", plain)
	}
	return nil
}
