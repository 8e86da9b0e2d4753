// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"fmt"
	"strconv"
	"strings"
)

// KeepCaps is what a run keeps of its capabilities once everything is attached.
type KeepCaps string

// What a run may keep. KeepLate is what is needed for what comes later: devices,
// namespaces, modules, rules, processes. With KeepNone all of these are as they were
// at the start.
const (
	KeepLate KeepCaps = "late"
	KeepNone KeepCaps = "none"
	KeepAll  KeepCaps = "all"
)

// Later is what a run has to do after the start beside tracing, and takes
// capabilities for with KeepLate.
type Later struct {
	Command bool // a COMMAND is ended, which may have become another user
	Give    bool // files are made that go to the user of sudo
	Foreign bool // files are made in a directory of another user
	Sticky  bool // and removed there, where its users may remove only their own
}

// Capability is one that is kept, and why.
type Capability struct {
	Name string
	bit  uint              // of linux/capability.h
	when func(*Later) bool // nil: always
	If   string            // when, in words; empty: always
	Why  string
}

// Kept are the capabilities that a run keeps with KeepLate. What
// breaks was seen by taking each away, but of CAP_BPF and CAP_PERFMON, which loading a
// program takes. CAP_NET_BROADCAST is not among them: of a socket that hears of devices
// the kernel asks who opened it (file_ns_capable in do_one_broadcast).
var Kept = []Capability{
	{Name: "CAP_NET_ADMIN", bit: 12, Why: "tc programs on devices that come later (below 6.6); rules, by nft, iptables-save and ipset; IPVS's table; conntrack entries"},
	{Name: "CAP_NET_RAW", bit: 13, Why: "rules, by iptables-legacy-save, which opens a raw socket"},
	{Name: "CAP_SYS_ADMIN", bit: 21, Why: "entering network namespaces; the types of modules that are loaded later"},
	{Name: "CAP_BPF", bit: 39, Why: "programs for the functions of modules that are loaded later; below 5.19 every bpf() call"},
	{Name: "CAP_PERFMON", bit: 38, Why: "the same programs, which read kernel memory, and their kprobes"},
	{Name: "CAP_SYSLOG", bit: 34, Why: "the addresses of these modules' functions in /proc/kallsyms"},
	{Name: "CAP_SYS_PTRACE", bit: 19, Why: "namespaces and sockets of processes with more capabilities, or of other users"},
	{Name: "CAP_DAC_READ_SEARCH", bit: 2, Why: "the lists of open files of other users' processes, for their names; a kubeconfig's files"},
	{Name: "CAP_KILL", bit: 5, when: func(l *Later) bool { return l.Command }, If: "with COMMAND", Why: "ending a COMMAND that has become another user"},
	{Name: "CAP_CHOWN", bit: 0, when: func(l *Later) bool { return l.Give }, If: "with --ring or --ready-file under sudo", Why: "giving files that are made later to the user of sudo"},
	{Name: "CAP_DAC_OVERRIDE", bit: 1, when: func(l *Later) bool { return l.Foreign }, If: "with --ring or --ready-file in another user's directory", Why: "making files there later"},
	{Name: "CAP_FOWNER", bit: 3, when: func(l *Later) bool { return l.Sticky }, If: "with --ring in another user's directory with the sticky bit", Why: "removing the oldest part there"},
}

// KeptByCleaner are those that the watcher process keeps which removes tc filters
// below 6.6.
var KeptByCleaner = []Capability{
	{Name: "CAP_NET_ADMIN", bit: 12, Why: "removing tc filters and qdiscs"},
	{Name: "CAP_SYS_ADMIN", bit: 21, Why: "entering network namespaces"},
	{Name: "CAP_SYS_PTRACE", bit: 19, Why: "opening the namespace that a thread of the tracer is in"},
}

// KeptWithNone are those that KeepNone keeps below 5.19.
var KeptWithNone = []Capability{
	{Name: "CAP_BPF", bit: 39, If: "below 5.19", Why: "every bpf() call, where kernel.unprivileged_bpf_disabled is set (until commit c8644cd0efe7)"},
}

// capSet is a set of capabilities, a bit each.
type capSet uint64

// setOf is the set of those that are kept for what is to be done later.
func setOf(list []Capability, l *Later) (s capSet) {
	for _, c := range list {
		if c.when == nil || c.when(l) {
			s |= 1 << c.bit
		}
	}
	return s
}

// firstUnprivilegedBPF is the first kernel on which bpf() serves the owner of a map
// or program without a capability whatever kernel.unprivileged_bpf_disabled is.
var firstUnprivilegedBPF = [2]int{5, 19}

// keptSet is the documented set. release is what uname -r prints.
func keptSet(keep KeepCaps, l *Later, release string) capSet {
	switch {
	case keep == KeepLate:
		return setOf(Kept, l)
	case keep == KeepNone && !atLeast(release, firstUnprivilegedBPF):
		return setOf(KeptWithNone, l)
	}
	return 0
}

// atLeast says whether a kernel is a version or later; one whose name says nothing
// is not.
func atLeast(release string, version [2]int) bool {
	major, rest, _ := strings.Cut(release, ".")
	minor := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
	x, err1 := strconv.Atoi(major)
	y, err2 := strconv.Atoi(minor)
	return err1 == nil && err2 == nil && (x > version[0] || x == version[0] && y >= version[1])
}

// capNames are all capabilities, by their bits (linux/capability.h).
var capNames = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable
	net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct
	sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap
	mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore`)

// String lists the set's capabilities in the order of their bits.
func (s capSet) String() string {
	if s == 0 {
		return "none"
	}
	var names []string
	for bit := range uint(64) {
		if s&(1<<bit) == 0 {
			continue
		}
		name := fmt.Sprintf("cap_%d", bit) // of a later kernel
		if bit < uint(len(capNames)) {
			name = "cap_" + capNames[bit]
		}
		names = append(names, name)
	}
	return strings.Join(names, ",")
}
