// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An inventory is a list of lines, one for each thing, so that two of them can
// be compared by diff. What changes by itself (counters, use counts) stays out.
type inventory []string

func (v *inventory) add(format string, args ...any) { *v = append(*v, fmt.Sprintf(format, args...)) }

// snapshot prints, sorted, what a tracer could leave behind in the kernel.
func snapshot(out io.Writer) error {
	var v inventory
	for _, part := range []func(*inventory) error{
		addPrograms, addMaps, addLinks, addPinned, addTracing, addModules, addAllNetns, addSettings,
	} {
		if err := part(&v); err != nil {
			return err
		}
	}
	sort.Strings(v)
	w := bufio.NewWriter(out)
	for _, line := range v {
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

// A thing that ends while it is looked at is no error: it is gone, and absent.

func addPrograms(v *inventory) error {
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list BPF programs: %w", err)
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil {
			v.add("bpf program id=%d type=%s name=%s", id, info.Type, info.Name)
		}
		p.Close()
	}
}

func addMaps(v *inventory) error {
	for id := ebpf.MapID(0); ; {
		next, err := ebpf.MapGetNextID(id)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("list BPF maps: %w", err)
		}
		id = next
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue
		}
		if info, err := m.Info(); err == nil {
			v.add("bpf map id=%d type=%s name=%s", id, info.Type, info.Name)
		}
		m.Close()
	}
}

func addLinks(v *inventory) error {
	it := &link.Iterator{}
	defer it.Close()
	for it.Next() {
		if info, err := it.Link.Info(); err == nil {
			v.add("bpf link id=%d type=%d program=%d", info.ID, info.Type, info.Program)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("list BPF links: %w", err)
	}
	return nil
}

func addPinned(v *inventory) error {
	const root = "/sys/fs/bpf"
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil && path != root {
			v.add("pinned %s", path)
		}
		return err
	})
}

// addTracing lists probes and instances made through tracefs, and the functions
// that anything is attached to. An address in these files is of a trampoline
// that is made anew each time; the names are what counts.
func addTracing(v *inventory) error {
	root := "/sys/kernel/tracing"
	if _, err := os.Stat(root + "/kprobe_events"); err != nil {
		root = "/sys/kernel/debug/tracing"
	}
	for _, file := range []string{"kprobe_events", "uprobe_events", "dynamic_events", "enabled_functions", "set_event", "current_tracer"} {
		for _, line := range lines(filepath.Join(root, file)) {
			if file == "enabled_functions" {
				line, _, _ = strings.Cut(line, " ")
			}
			v.add("tracefs %s %s", file, line)
		}
	}
	instances, _ := os.ReadDir(root + "/instances")
	for _, i := range instances {
		v.add("tracefs instance %s", i.Name())
	}
	for _, line := range lines("/sys/kernel/debug/kprobes/list") {
		if _, probe, ok := strings.Cut(line, " "); ok {
			v.add("kprobe %s", strings.Join(strings.Fields(probe), " "))
		}
	}
	return nil
}

func addModules(v *inventory) error {
	for _, line := range lines("/proc/modules") {
		name, _, _ := strings.Cut(line, " ")
		v.add("module %s", name)
	}
	return nil
}

// addAllNetns lists devices, queueing disciplines, filters and the settings of
// a namespace, for this one and all named ones.
func addAllNetns(v *inventory) error {
	if err := addNetns(v, "-", "/proc/thread-self/ns/net"); err != nil {
		return err
	}
	names, err := os.ReadDir(netnsDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		err := addNetns(v, name.Name(), netnsPath(name.Name()))
		// EINVAL: a name whose namespace is not mounted yet, or no longer.
		if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return nil
}

func addNetns(v *inventory, name, path string) error {
	return inNetns(path, func() error {
		h := openHost("/proc/thread-self/ns/net")
		defer h.close()
		if h.err != nil {
			return h.err
		}
		links, err := h.h.LinkList()
		if err != nil {
			return fmt.Errorf("list the devices of %s: %w", name, err)
		}
		for _, l := range links {
			addDevice(v, h.h, name, l)
		}
		for _, key := range netnsSettings {
			addSetting(v, "netns "+name+" sysctl", key)
		}
		return nil
	})
}

func addDevice(v *inventory, h *netlink.Handle, ns string, l netlink.Link) {
	a := l.Attrs()
	// Running follows the carrier, which comes up in its own time.
	v.add("netns %s device %s type=%s flags=%s promiscuity=%d", ns, a.Name, l.Type(), a.Flags&^net.FlagRunning, a.Promisc)
	if a.Xdp != nil && a.Xdp.Attached {
		v.add("netns %s xdp %s program=%d", ns, a.Name, a.Xdp.ProgId)
	}
	qdiscs, err := h.QdiscList(l)
	if err != nil {
		v.add("netns %s qdisc %s unknown: %v", ns, a.Name, err)
	}
	for _, q := range qdiscs {
		v.add("netns %s qdisc %s %s handle=%x parent=%x", ns, a.Name, q.Type(), q.Attrs().Handle, q.Attrs().Parent)
	}
	for _, parent := range []uint32{netlink.HANDLE_ROOT, netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
		filters, err := h.FilterList(l, parent)
		if err != nil {
			continue // no discipline that could have filters
		}
		for _, f := range filters {
			id := ""
			if b, ok := f.(*netlink.BpfFilter); ok {
				id = fmt.Sprintf(" program=%d name=%s", b.Id, b.Name)
			}
			v.add("netns %s filter %s parent=%x %s priority=%d handle=%x%s", ns, a.Name, parent, f.Type(),
				f.Attrs().Priority, f.Attrs().Handle, id)
		}
	}
}

// The settings of a namespace that a tracer might be tempted to change. Of the first
// one all are looked at.
var netnsSettings = []string{
	"net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.ipv4.vs.conntrack",
	"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
	"net.netfilter.nf_conntrack_acct", "net.netfilter.nf_conntrack_timestamp",
	"net.netfilter.nf_conntrack_events", "net.netfilter.nf_log_all_netns",
}

// addSetting leaves out what this kernel does not have.
func addSetting(v *inventory, what, key string) {
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(key, ".", "/"))
	if err == nil {
		v.add("%s %s=%s", what, key, strings.TrimSpace(string(text)))
	}
}

// lines reads a file's lines; a file that is absent or may not be read has none.
func lines(path string) []string {
	text, err := os.ReadFile(path)
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}
