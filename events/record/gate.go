// SPDX-License-Identifier: Apache-2.0

package record

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
)

// gate is between a Writer and its file. With around set it holds back blocks of
// events, with the names that belong to them, until something fails. Where events
// are left out their names are not: what was told once is needed from then on.
type gate struct {
	out     io.Writer
	p       *packer
	around  uint64 // ns to keep before and after a failure; 0: everything passes
	most    int    // bytes to hold back
	now     uint64 // ns
	until   uint64 // everything passes up to then; 0: nothing failed yet
	written int64  // in whole blocks
	err     error  // of out: a part of a block may be in it

	held    []heldBlocks
	bytes   int    // in held
	names   []byte // blocks of names, and status, that belong before the next events
	leftOut bool   // something was, since the last events that passed
}

// heldBlocks is a block of events that waits for a failure, and the names and status
// before it.
type heldBlocks struct {
	time          uint64
	names, events []byte
}

// begin begins a file, behind the end of the one before.
func (g *gate) begin(out io.Writer) { g.out, g.written, g.err = out, 0, nil }

// Write takes whole blocks, at first behind the header of the file.
func (g *gate) Write(p []byte) (int, error) {
	rest := p
	if g.around == 0 || g.written == 0 {
		n := len(p)
		if g.around != 0 {
			n = fileHeader
		}
		g.pass(p[:n])
		rest = p[n:]
	}
	for len(rest) > 0 && g.err == nil {
		h, wrong := parseHead(rest)
		if wrong != "" {
			return 0, errors.New(wrong)
		}
		block := rest[:blockHeader+h.stored]
		rest = rest[len(block):]
		switch h.kind {
		case kindNames:
			g.names = append(g.names, block...)
		case kindStatus: // behind the events that it came behind
			if len(g.held) > 0 || len(g.names) > 0 {
				g.names = append(g.names, block...)
				break
			}
			g.pass(block)
		case kindEvents:
			g.hold(block)
		case kindEnd:
			g.leaveOut(len(g.held))
			g.pass(g.names)
			g.pass(block)
			g.names = nil
		default:
			g.pass(block)
		}
	}
	if err := g.release(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// pass writes blocks. After an error nothing more is written: it would not be
// found behind a part of a block.
func (g *gate) pass(p []byte) {
	if g.err != nil || len(p) == 0 {
		return
	}
	if _, g.err = g.out.Write(p); g.err == nil {
		g.written += int64(len(p))
	}
}

// hold keeps events for the time before a failure, and leaves out those too old.
func (g *gate) hold(block []byte) {
	g.held = append(g.held, heldBlocks{g.now, g.names, slices.Clone(block)})
	g.bytes += len(g.names) + len(block)
	g.names = nil
	if g.opened() {
		return
	}
	old, bytes := 0, g.bytes
	for old < len(g.held)-1 && (bytes > g.most || g.held[old].time+g.around < g.now) {
		bytes -= g.held[old].size()
		old++
	}
	g.leaveOut(old)
}

func (h *heldBlocks) size() int { return len(h.names) + len(h.events) }

// leaveOut leaves out the oldest events that are held back, but not their names.
func (g *gate) leaveOut(n int) {
	for i := range g.held[:n] {
		g.pass(g.held[i].names)
		g.bytes -= g.held[i].size()
		g.leftOut = true
	}
	g.held = slices.Delete(g.held, 0, n)
}

// open lets everything pass that is near the time of a failure.
func (g *gate) open(now uint64) { g.until = max(g.until, now+g.around) }

// opened says whether everything passes.
func (g *gate) opened() bool { return g.until != 0 && g.now <= g.until }

// release writes what was held back, if something failed, with a word about what
// lies between it and what was written before. Its error is that of the file.
func (g *gate) release() error {
	if !g.opened() || len(g.held) == 0 {
		return g.err
	}
	if g.leftOut {
		g.leftOut = false
		text, err := json.Marshal(&Status{Gap: true})
		if err != nil {
			return err
		}
		g.pass(g.p.pack(nil, kindStatus, text))
	}
	for i := range g.held {
		g.pass(g.held[i].names)
		g.pass(g.held[i].events)
	}
	clear(g.held)
	g.held, g.bytes = g.held[:0], 0
	return g.err
}
