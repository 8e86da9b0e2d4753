// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/bpf"
)

// loadedModules lists the kernel's modules, as one string to compare and to search:
// " ip_vs=4711 nf_nat=4712 ". The number tells a module from itself loaded again: it
// is the inode of its folder in sysfs, of which there is no other in a while.
func loadedModules() string {
	data, err := os.ReadFile("/proc/modules")
	if err != nil {
		return ""
	}
	var list strings.Builder
	list.WriteByte(' ')
	for line := range strings.Lines(string(data)) {
		name, _, _ := strings.Cut(line, " ")
		list.WriteString(loadedModule(name))
		list.WriteByte(' ')
	}
	return list.String()
}

// loadedModule is a module as loadedModules has it.
func loadedModule(name string) string {
	var st unix.Stat_t
	_ = unix.Stat("/sys/module/"+name, &st) // 0 for one that has gone meanwhile
	return name + "=" + strconv.FormatUint(st.Ino, 10)
}

// gone says whether a hook went with its module. A kprobe does, and is not there again
// when the module is; a trampoline keeps the module from being unloaded.
func (h *hook) gone(loaded string) bool {
	return h.module != "" && !strings.Contains(loaded, " "+h.module+" ")
}

// followModules takes note of modules that came and went: of their symbols, which
// would name other functions by now, and of rows whose functions are there or have
// gone. It returns the modules that it knows of: after an error those of before, so
// that it is tried again.
func (t *Tracer) followModules(known string) (loaded string, err error) {
	loaded = loadedModules()
	if loaded == known {
		return known, nil
	}
	symbols, err := readSymbols()
	if err != nil {
		return known, err
	}
	t.kernel.symbols.Store(symbols)
	if t.cfg.Hooks == HooksAll {
		err = t.attachNew(loaded)
	}
	if err != nil {
		return known, err
	}
	return loaded, nil
}

// attachNew attaches rows whose function has appeared with a module, and lets go of
// those whose function has vanished with one.
func (t *Tracer) attachNew(loaded string) (err error) {
	if err := t.kernel.readTypes(); err != nil {
		return err
	}
	defer t.dropLoading()
	if t.loader.spec, err = bpf.Spec(); err != nil {
		return fmt.Errorf("read compiled programs: %w", err)
	}
	// Rows are attached as new hooks, which take the place of the absent ones
	// when they are finished: t.mu is not held for the seconds that this takes,
	// and who reads the table never sees one half attached.
	var fresh []*hook
	for _, h := range t.table() {
		if h.how == "" && h.row.at != onTC || h.gone(loaded) {
			fresh = append(fresh, &hook{row: h.row, id: h.id})
		}
	}
	err = t.loader.attachAll(fresh)
	for _, h := range t.exchange(fresh) {
		h.close()
	}
	return err
}

// exchange puts hooks into the table, and returns those that are to be closed.
func (t *Tracer) exchange(fresh []*hook) (old []*hook) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fresh
	}
	for _, h := range fresh {
		was := t.hooks[h.id-1]
		t.notRunBefore += was.notRun()
		t.hooks[h.id-1] = h
		old = append(old, was)
	}
	return old
}
