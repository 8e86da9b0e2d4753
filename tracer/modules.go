// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"os"
	"strings"
)

// loadedModules lists the kernel's modules, as one string to compare.
func loadedModules() string {
	data, err := os.ReadFile("/proc/modules")
	if err != nil {
		return ""
	}
	var names strings.Builder
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, " ")
		names.WriteString(name)
		names.WriteByte(' ')
	}
	return names.String()
}

// attachNew attaches rows whose function has appeared with a module. A hook in
// a module that is in use keeps it from being unloaded, or vanishes with it.
func (t *Tracer) attachNew() {
	if t.cfg.Hooks != HooksAll {
		return
	}
	symbols, err := readSymbols()
	if err != nil {
		t.cfg.Warn(err.Error())
		return
	}
	t.kernel.symbols.Store(symbols)
	if err := t.kernel.readTypes(); err != nil {
		t.cfg.Warn(err.Error())
		return
	}
	defer t.kernel.dropTypes()
	// Rows are attached as new hooks, which take the place of the absent ones
	// when they are finished: t.mu is not held for the seconds that this takes,
	// and who reads the table never sees one half attached.
	var fresh []*hook
	for _, h := range t.table() {
		if h.how == "" && h.row.at != onTC && errors.Is(h.err, errAbsent) {
			fresh = append(fresh, &hook{row: h.row, id: h.id})
		}
	}
	if err := t.loader.attachAll(fresh); err != nil {
		t.cfg.Warn(err.Error())
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range fresh {
		if t.closed {
			h.close()
			continue
		}
		t.hooks[h.id-1] = h
	}
}
