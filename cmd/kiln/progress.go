package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"kiln"
)

// listener returns who hears the events of a build: JSON lines, a live
// terminal, plain lines, or nobody, and a function that ends the display.
func (a *app) listener() (kiln.Report, func()) {
	switch {
	case a.json:
		return a.jsonLines(), func() {}
	case a.quiet:
		return a.warningsOnly(), func() {}
	}
	t := &terminal{out: a.err, colour: a.colour(), live: isTerminal(a.err)}
	return t.event, t.end
}

func (a *app) colour() bool { return a.colourOn(a.err) }

func (a *app) colourOn(w io.Writer) bool {
	_, off := os.LookupEnv("NO_COLOR")
	return !off && !a.noColor && isTerminal(w) && os.Getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (a *app) jsonLines() kiln.Report {
	var mu sync.Mutex
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	return func(e kiln.Event) {
		mu.Lock()
		defer mu.Unlock()
		e.Time = time.Now().UnixMilli()
		_ = enc.Encode(e)
	}
}

func (a *app) warningsOnly() kiln.Report {
	return func(e kiln.Event) {
		if e.Type == kiln.EventWarning {
			fmt.Fprintln(a.err, "warning: "+e.Message)
		}
	}
}

// terminal shows one line a station: live where the output is a terminal.
type terminal struct {
	mu           sync.Mutex
	out          io.Writer
	colour, live bool
	open         string // the live line shown now
	shown        time.Time
}

const redraw = 80 * time.Millisecond

func (t *terminal) event(e kiln.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch e.Type {
	case kiln.EventStart:
		t.draw(fmt.Sprintf("  %-9s …", e.Station), true)
	case kiln.EventProgress:
		t.draw(fmt.Sprintf("  %-9s %s", e.Station, progressText(e)), e.Done == e.Total)
	case kiln.EventDone:
		t.print(t.paint("32", "✓") + stationLine(e))
	case kiln.EventCached:
		t.print(t.paint("36", "=") + stationLine(e))
	case kiln.EventFailed:
		t.print(t.paint("31", "✗") + stationLine(kiln.Event{Station: e.Station, Millis: e.Millis, Message: "failed"}))
	case kiln.EventWarning:
		t.print(t.paint("33", "!") + fmt.Sprintf(" %-9s %s", e.Station, e.Message))
	case kiln.EventNote:
		t.print(fmt.Sprintf("  %-9s %s", e.Station, e.Message))
	}
}

func stationLine(e kiln.Event) string {
	return fmt.Sprintf(" %-9s %7.2f s  %s", e.Station, float64(e.Millis)/1000, e.Message)
}

func progressText(e kiln.Event) string {
	if e.Unit == "bytes" {
		return fmt.Sprintf("%.1f of %.1f MiB", float64(e.Done)/(1<<20), float64(e.Total)/(1<<20))
	}
	return fmt.Sprintf("%d of %d %s", e.Done, e.Total, e.Unit)
}

// draw replaces the live line, at most once a redraw interval.
func (t *terminal) draw(line string, now bool) {
	if !t.live || (!now && time.Since(t.shown) < redraw) {
		return
	}
	t.shown, t.open = time.Now(), line
	fmt.Fprint(t.out, "\r\x1b[K"+strings.TrimRight(line, "\n"))
}

func (t *terminal) print(line string) {
	if t.open != "" {
		fmt.Fprint(t.out, "\r\x1b[K")
		t.open = ""
	}
	fmt.Fprintln(t.out, line)
}

func (t *terminal) paint(code, s string) string {
	if !t.colour {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// end clears a live line that was left.
func (t *terminal) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open != "" {
		fmt.Fprint(t.out, "\r\x1b[K")
		t.open = ""
	}
}
