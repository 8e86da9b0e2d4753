// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strconv"
	"time"
)

// progress tells on standard error how a long run goes: on a terminal one line
// that is written again and again, otherwise a line from time to time.
type progress struct {
	a        *app
	terminal bool
	told     time.Time
}

// progressPatience is how long nothing is said where each word is another line.
const progressPatience = 10 * time.Second

func newProgress(a *app) *progress {
	return &progress{a: a, terminal: a.sys.errTerminal, told: time.Now()}
}

// show tells what has been recorded so far.
func (p *progress) show(events, traversals uint64, bytes int64, lost map[string]uint64) {
	text := fmt.Sprintf("%s, %s, %s, ", plural(events, "event"), plural(traversals, "traversal"), sizeText(bytes))
	if words := lossText(lost); words != "" {
		text += "LOST " + words
	} else {
		text += "0 lost"
	}
	switch {
	case p.terminal:
		p.a.errw.line("stackhop: " + text)
	case time.Since(p.told) >= progressPatience:
		p.told = time.Now()
		p.a.say("recording: %s", text)
	}
}

// sizeText writes bytes for people.
func sizeText(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10) + " B"
	}
	div, exp := int64(unit), 0
	for m := n / unit; m >= unit; m /= unit {
		div *= unit
		exp++
	}
	return fmt.Sprintf("%.1f %ciB", float64(n)/float64(div), "KMGTPE"[exp])
}
