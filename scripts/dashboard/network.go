package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

func (b *browser) login() error {
	b.expect("401 (Unauthorized)")
	if err := b.open("/"); err != nil {
		return err
	}
	if err := b.until("the form", `!document.getElementById("login").hidden`); err != nil {
		return err
	}
	b.picture("login")
	if err := b.enter("anna", "wrong"); err != nil {
		return err
	}
	if err := b.until("the refusal", `document.getElementById("login-error").textContent.includes("wrong name or password")`); err != nil {
		return err
	}
	if err := b.enter("anna", "open sesame"); err != nil {
		return err
	}
	if err := b.until("values", `document.getElementById("login").hidden && document.querySelectorAll(".value").length >= 6`); err != nil {
		return err
	}
	if err := b.until("a switch that can be used", `document.querySelector(".toggle:not(:disabled)")`); err != nil {
		return err
	}
	report("login", "a wrong password is refused, the right one lets in")
	return nil
}

// cookie looks at the session's.
func (b *browser) cookie() error {
	got, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{URLs: []string{b.base}})
	if err != nil {
		return err
	}
	if len(got.Cookies) != 1 {
		return fmt.Errorf("got %d cookies, want one", len(got.Cookies))
	}
	c := got.Cookies[0]
	if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HTTPOnly || c.SameSite != network.CookieSameSiteStrict {
		return fmt.Errorf("got %s, secure %t, HttpOnly %t, same site %s", c.Name, c.Secure, c.HTTPOnly, c.SameSite)
	}
	read, err := eval[string](b, `document.cookie`)
	if err == nil && read != "" {
		err = fmt.Errorf("scripts can read it: %s", read)
	}
	report("cookie", "%s: Secure, HttpOnly, SameSite=%s", c.Name, c.SameSite)
	return err
}

// inline tries scripts and styles that an attacker has injected into the page: the browser has to refuse them.
func (b *browser) inline() error {
	b.expect("Content Security Policy")
	got, err := eval[string](b, `new Promise((done) => {
		const seen = [];
		addEventListener("securitypolicyviolation", (e) => { seen.push(e.effectiveDirective); if (seen.length === 3) done(seen.sort().join(" ") + " " + window.smuggled); });
		const script = document.createElement("script");
		script.textContent = "window.smuggled = true";
		document.head.append(script);
		const image = new Image();
		image.src = "https://127.0.0.1:1/";
		fetch("https://127.0.0.1:1/").catch(() => {});
	})`)
	if want := "connect-src img-src script-src-elem undefined"; err == nil && got != want {
		err = fmt.Errorf("got %q, want %q", got, want)
	}
	report("content security policy", "an inline script, an image and a request to elsewhere are refused")
	return err
}

// otherPage is one of another origin, but of the same site, so that the browser sends the session's cookie with
// what it asks the gateway for. It cannot switch an output, log a user out, or show the page in a frame.
func (b *browser) otherPage() error {
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><title>other</title><link rel="icon" href="data:,"><body>`)
	}))
	defer other.Close()
	b.expect("/favicon.ico") // which browsers want beside an answer that is no page
	for _, path := range []string{"/api/outputs/pump", "/api/logout"} {
		if err := chromedp.Do(b.ctx, chromedp.Navigate(other.URL)); err != nil {
			return err
		}
		b.expect("403 (Forbidden)")
		// As text, which a form may send anywhere: {"value":"on","id":"x","=":""}
		if _, err := eval[bool](b, fmt.Sprintf(`(() => {
			const form = document.createElement("form");
			form.method = "post"; form.enctype = "text/plain"; form.action = %q;
			const input = document.createElement("input");
			input.name = '{"value":"on","id":"x","'; input.value = '":""}';
			form.append(input); document.body.append(form); form.submit();
			return true;
		})()`, b.base+path)); err != nil {
			return err
		}
		if err := b.until("the refusal of "+path, `location.href.endsWith("`+path+`") && document.body.innerText.includes("from another web page")`); err != nil {
			return err
		}
	}
	if err := chromedp.Do(b.ctx, chromedp.Navigate(other.URL)); err != nil {
		return err
	}
	b.expect("frame-ancestors")
	b.expect("ERR_BLOCKED_BY_RESPONSE")
	if _, err := eval[bool](b, fmt.Sprintf(`(() => { const f = document.createElement("iframe"); f.src = %q; document.body.append(f); return true; })()`, b.base)); err != nil {
		return err
	}
	for end := time.Now().Add(patience); !b.complained("frame-ancestors"); time.Sleep(30 * time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("another page can show this one in a frame")
		}
	}
	// Still logged in, and nothing was switched.
	if err := b.open("/"); err != nil {
		return err
	}
	if err := b.until("a switch", `document.querySelector(".toggle:not(:disabled)")`); err != nil {
		return err
	}
	on, err := eval[bool](b, `!!document.querySelector('.toggle[aria-checked="true"]')`)
	if err == nil && on {
		err = errors.New("another web page has switched an output")
	}
	report("another web page", "cannot switch, log out, or show this one in a frame")
	return err
}

// remoteSwitch is what the others may not.
func (b *browser) remoteSwitch() error {
	if _, err := eval[bool](b, card("pump")+`.querySelector(".toggle").click() || true`); err != nil {
		return err
	}
	if err := b.until("the pump to be on", card("pump")+`.querySelector('.toggle[aria-checked="true"]')`); err != nil {
		return err
	}
	report("switch over https", "works for who may")
	return b.logout()
}

func (b *browser) enter(user, password string) error {
	if err := b.until("the form", `!document.querySelector("#login button").disabled`); err != nil {
		return err
	}
	for id, value := range map[string]string{"name": user, "password": ""} {
		if _, err := eval[string](b, fmt.Sprintf("document.getElementById(%q).value = %q", id, value)); err != nil {
			return err
		}
	}
	return chromedp.Do(b.ctx, chromedp.SendKeys(chromedp.CSS("#password"), password+kb.Enter))
}

func (b *browser) logout() error {
	if err := chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS("#logout"))); err != nil {
		return err
	}
	return b.until("the form", `!document.getElementById("login").hidden && document.querySelectorAll("section:not([hidden]), article").length === 0`)
}

func (b *browser) lookOnly() error {
	if err := b.enter("ben", "open sesame"); err != nil {
		return err
	}
	if err := b.until("switches that cannot be used", `document.getElementById("user").textContent.startsWith("ben") && document.querySelectorAll(".toggle").length === 2 && !document.querySelector(".toggle:not(:disabled)")`); err != nil {
		return err
	}
	status, err := eval[float64](b, `fetch("/api/outputs/pump", {method: "POST", headers: {"Content-Type": "application/json"}, body: '{"value":"on","id":"x"}'}).then((r) => r.status)`)
	b.expect("403 (Forbidden)")
	if err == nil && status != 403 {
		err = fmt.Errorf("the server answers %v", status)
	}
	report("who may only look", "sees switches that do nothing, and is refused by the server")
	return err
}
