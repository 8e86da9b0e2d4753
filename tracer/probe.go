// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// checkFunctionHooks tries one, before anything else is attached: lockdown and
// kernels without kprobes and trampolines are told apart from what is merely
// missing.
func (k *kernel) checkFunctionHooks() error {
	ferr := k.tryFunctionHook(ebpf.Tracing)
	if ferr == nil {
		k.trampolines = true
		return nil
	}
	kerr := k.tryFunctionHook(ebpf.Kprobe)
	if kerr == nil {
		return nil
	}
	return fmt.Errorf("%w%s: fentry: %s; kprobe: %s", ErrNoFunctionHooks, lockedDown(), cause(ferr), cause(kerr))
}

// errNoKernelReads says that programs must not read what a pointer points to,
// which all of stackhop's do.
var errNoKernelReads = errors.New("this kernel refuses BPF programs that read its memory")

// readsWayOut is what can be done about errNoKernelReads.
const readsWayOut = "boot with lockdown=integrity, or without lockdown"

// checkKernelReads loads a program that would read. It cannot be left to the
// programs themselves: the library takes the refusal for an old kernel's, and
// tries a helper that the verifier does not know.
func checkKernelReads() error {
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "sh_probe", Type: ebpf.RawTracepoint, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, 0), asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
			asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, 8), asm.Mov.Imm(asm.R3, 0),
			asm.FnProbeReadKernel.Call(),
			asm.Mov.Imm(asm.R0, 0), asm.Return(),
		}})
	if err != nil {
		return fmt.Errorf("%w%s: %s", errNoKernelReads, lockedDown(), cause(err))
	}
	return prog.Close()
}

// lockedDown adds to a refusal that the kernel is locked down, if it is.
func lockedDown() string {
	if mode := lockdown(); mode != "" && mode != "none" {
		return fmt.Sprintf(" (kernel lockdown: %s)", mode)
	}
	return ""
}

// cause is the kernel's own word for an error, where it gave one.
func cause(err error) string {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return short(err)
}

// errNoKprobes says that the kernel has no kprobes that end with the process
// that made them. The other kind, made by writing to tracefs, would stay after
// SIGKILL, and is not used.
var errNoKprobes = errors.New("this kernel has none (no kprobe event source)")

func haveKprobes() error {
	if _, err := os.Stat("/sys/bus/event_source/devices/kprobe/type"); err != nil {
		return errNoKprobes
	}
	return nil
}

// tryFunctionHook attaches a program that does nothing to ip_rcv, and detaches
// it again.
func (k *kernel) tryFunctionHook(kind ebpf.ProgramType) error {
	if kind == ebpf.Kprobe {
		if err := haveKprobes(); err != nil {
			return err
		}
	}
	spec := &ebpf.ProgramSpec{Name: "sh_probe", Type: kind, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()}}
	if kind == ebpf.Tracing {
		spec.AttachType, spec.AttachTo = ebpf.AttachTraceFEntry, "ip_rcv"
	}
	// A collection, for the sake of the cache: a program alone reads all types anew.
	coll, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Programs: map[string]*ebpf.ProgramSpec{spec.Name: spec},
	}, ebpf.CollectionOptions{Cache: k.cache})
	if err != nil {
		return err
	}
	defer coll.Close()
	prog := coll.Programs[spec.Name]
	var l link.Link
	if kind == ebpf.Tracing {
		l, err = link.AttachTracing(link.TracingOptions{Program: prog, AttachType: ebpf.AttachTraceFEntry})
	} else {
		l, err = link.Kprobe("ip_rcv", prog, nil)
	}
	if err != nil {
		return err
	}
	return l.Close()
}

// lockdown returns the mode in force, "" where there is no lockdown.
func lockdown() string {
	data, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(data), "[")
	mode, _, _ := strings.Cut(rest, "]")
	return mode
}

// short leaves out the verifier's log.
func short(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return s
}

func (h *hook) status() HookStatus {
	s := HookStatus{Name: h.row.name, Station: h.row.station.String(), Function: h.row.symbol(), How: h.how,
		Required: h.row.required, Kernels: h.row.kernels, Means: h.row.means}
	if s.How == "" {
		s.How = "absent"
	}
	if h.err != nil {
		s.Err = short(h.err)
	}
	return s
}

// Attached tells how each row of the table is attached, and with Config.Count
// how often it fired.
func (t *Tracer) Attached() []HookStatus {
	var hits []uint64
	if t.cfg.Count {
		var err error
		if hits, err = t.state.hits(); err != nil {
			t.cfg.Warn(err.Error())
		}
	}
	hooks := t.table()
	out := make([]HookStatus, len(hooks))
	for i, h := range hooks {
		out[i] = h.status()
		if int(h.id) < len(hits) {
			out[i].Hits = hits[h.id]
		}
	}
	return out
}

// HookTable tells how each row would be attached on this kernel. It attaches
// nothing.
func HookTable() ([]HookStatus, error) {
	k, err := readKernel()
	if err != nil {
		return nil, err
	}
	hooks := newHooks()
	out := make([]HookStatus, len(hooks))
	for i, h := range hooks {
		how, _, _, err := k.plan(h.row)
		h.how, h.err = how, err
		if err != nil {
			h.how = ""
		}
		out[i] = h.status()
	}
	return out, nil
}

// Probe finds out what this kernel lacks, if anything. It changes nothing.
func Probe() (*Kernel, error) {
	k := &Kernel{Release: release(), Arch: arch()}
	missing, err := missingCapabilities()
	if err != nil {
		return nil, err
	}
	k.check("capabilities", len(missing) == 0, strings.Join(missing, ", ")+" missing", "run as root")
	kern, err := readKernel()
	k.check("BTF", err == nil, fmt.Sprint(err), "use a kernel built with CONFIG_DEBUG_INFO_BTF=y")
	if err != nil || len(missing) > 0 {
		return k, nil
	}
	layout := kern.checkLayout()
	k.check("struct sk_buff", layout == nil, fmt.Sprint(layout), "report this kernel to the project")
	ring, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.RingBuf, MaxEntries: 4096})
	k.check("ring buffer", err == nil, fmt.Sprint(err), "5.8 or later is needed")
	if err == nil {
		ring.Close()
	}
	reads := checkKernelReads()
	k.check("kernel memory", reads == nil, fmt.Sprint(reads), readsWayOut)
	k.checkTracepoints(kern)
	k.CanTracepoints = k.allOK()
	functions := kern.checkFunctionHooks()
	k.check("function hooks", functions == nil, fmt.Sprint(functions), "use --hooks tracepoints")
	k.CanTrace = k.CanTracepoints && functions == nil
	k.checkModules(kern)
	return k, nil
}

func (k *Kernel) check(name string, ok bool, detail, wayOut string) {
	c := Check{Name: name, Status: "ok"}
	if !ok {
		c.Status, c.Detail, c.WayOut = "missing", detail, wayOut
	}
	k.Checks = append(k.Checks, c)
}

func (k *Kernel) allOK() bool {
	for _, c := range k.Checks {
		if c.Status != "ok" {
			return false
		}
	}
	return true
}

func (k *Kernel) checkTracepoints(kern *kernel) {
	var absent []string
	for i := range table {
		if r := &table[i]; r.at == onTracepoint && kern.tracepoint(r.symbol()) == nil {
			absent = append(absent, r.name)
		}
	}
	k.check("tracepoints", len(absent) == 0, strings.Join(absent, ", ")+" missing", "a kernel with CONFIG_TRACEPOINTS and BTF is needed")
}

// checkModules tells what cannot be seen because a module is not loaded; its
// hooks are attached once it is.
func (k *Kernel) checkModules(kern *kernel) {
	for _, m := range []struct{ function, sees string }{
		{"ip_vs_schedule", "IPVS"}, {"nf_conntrack_in", "conntrack"}, {"nf_nat_manip_pkt", "NAT"},
		{"br_handle_frame_finish", "bridges"}, {"veth_xmit", "veth"},
	} {
		module, ok := kern.symbols.Load().find(m.function)
		c := Check{Name: m.sees, Status: "ok"}
		switch {
		case !ok:
			c.Status, c.Detail = "degraded", "its module is not loaded: nothing of it to be seen yet"
		case module != "" && kern.function(m.function, module) == nil:
			c.Status, c.Detail = "degraded", "module "+module+" has no BTF: kprobes are used"
		}
		k.Checks = append(k.Checks, c)
	}
}
