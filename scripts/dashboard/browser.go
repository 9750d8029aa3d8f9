package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is one tab, with everything that it asked for and complained of.
type browser struct {
	ctx      context.Context
	close    func()
	base     string
	pictures string

	mu       sync.Mutex
	requests []string // addresses
	wrong    []string // console errors, exceptions, what the policy blocked
	expected []string // parts of complaints that a step provokes
}

func newBrowser(ctx context.Context, pictures string) (*browser, error) {
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.NoSandbox,        // CI is root, and everything here is ours
		chromedp.IgnoreCertErrors) // people click that away, too
	alloc, stopAlloc := chromedp.NewExecAllocator(ctx, opts...)
	tab, stopTab := chromedp.NewContext(alloc)
	b := &browser{ctx: tab, pictures: pictures, close: func() { stopTab(); stopAlloc() }}
	err := chromedp.Listen(tab, b.heard)
	if err == nil {
		err = chromedp.Do(tab, chromedp.EmulateViewport(1280, 900))
	}
	if err != nil {
		b.close()
		return nil, fmt.Errorf("chromium: %w", err)
	}
	return b, nil
}

func (b *browser) heard(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, ev.Request.URL)
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, "exception: "+ev.ExceptionDetails.Text+" "+ev.ExceptionDetails.URL)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == runtime.ConsoleAPICalledTypeError || ev.Type == runtime.ConsoleAPICalledTypeWarning {
			for _, arg := range ev.Args {
				b.wrong = append(b.wrong, fmt.Sprintf("console: %s %s", arg.Value, arg.Description))
			}
		}
	case *cdplog.EventEntryAdded:
		if ev.Entry.Level == cdplog.EntryLevelError || ev.Entry.Level == cdplog.EntryLevelWarning {
			b.wrong = append(b.wrong, "log: "+ev.Entry.Text+" "+ev.Entry.URL)
		}
	}
}

// expect lets complaints with this text pass, which a step provokes.
func (b *browser) expect(part string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, part)
}

func (b *browser) complained(part string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.wrong, func(w string) bool { return strings.Contains(w, part) })
}

// verdict says what went out of the device, and what the browser complained of.
func (b *browser) verdict() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, r := range b.requests {
		if u, err := url.Parse(r); err != nil || u.Scheme != "data" && u.Hostname() != "127.0.0.1" {
			errs = append(errs, fmt.Errorf("a request leaves the device: %s", r))
		}
	}
	fmt.Printf("%-46s %d, all to this device: %v\n", "requests", len(b.requests), len(errs) == 0)
complaints:
	for _, w := range b.wrong {
		for _, part := range b.expected {
			if strings.Contains(w, part) {
				continue complaints
			}
		}
		errs = append(errs, fmt.Errorf("the browser complains: %s", w))
	}
	return errors.Join(errs...)
}

type step struct {
	name string
	do   func() error
}

func (b *browser) steps(steps ...step) error {
	for _, s := range steps {
		if err := s.do(); err != nil {
			b.picture("failed")
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

func report(name, format string, args ...any) {
	fmt.Printf("%-46s %s\n", name, fmt.Sprintf(format, args...))
}

// patience is how long a step waits for what it wants to see.
const patience = 20 * time.Second

// until waits for an expression of JavaScript to be true.
func (b *browser) until(what, expression string) error {
	end := time.Now().Add(patience)
	for {
		is, err := eval[bool](b, "!!("+expression+")")
		if err == nil && is {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("waited in vain for %s: %v", what, err)
		}
		time.Sleep(30 * time.Millisecond)
	}
}

func eval[T any](b *browser, expression string) (T, error) {
	return chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

func (b *browser) open(path string) error {
	return chromedp.Do(b.ctx, chromedp.Navigate(b.base+path))
}

// view shows one of the page's views.
func (b *browser) view(name string) error {
	if err := chromedp.Do(b.ctx, chromedp.Click(chromedp.CSS(`nav a[href="#`+name+`"]`))); err != nil {
		return err
	}
	return b.until("view "+name, `!document.querySelector('[data-view="`+name+`"]').hidden`)
}

func (b *browser) picture(name string) {
	if b.pictures == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(b.pictures, name+".png"), png, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no picture:", err)
	}
}

func (b *browser) scheme(name string) error {
	p := emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, p)
	return err
}
