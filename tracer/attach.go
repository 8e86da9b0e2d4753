// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sync/errgroup"

	"github.com/stackhop/stackhop/bpf"
	"github.com/stackhop/stackhop/events"
)

// errAbsent says that this kernel lacks a hook: no such function, or nothing
// to tell its arguments by.
var errAbsent = errors.New("not on this kernel")

// hook is a row of the table as this run uses it.
type hook struct {
	row *row
	id  events.HookID
	how string // fentry, fexit, kprobe, tp_btf, tcx, clsact; "" if absent
	// module is the one that a kprobe is in, as loadedModules has it; "": none.
	module string
	err    error
	prog   *ebpf.Program
	link   link.Link
}

// newHooks gives every row its number. Row i has the number i+1.
func newHooks() []*hook {
	hooks := make([]*hook, len(table))
	for i := range table {
		hooks[i] = &hook{row: &table[i], id: events.HookID(i + 1)}
	}
	return hooks
}

// plan decides how a row is attached on this kernel.
func (k *kernel) plan(r *row) (how string, res *resolved, ctx handover, err error) {
	switch r.at {
	case onTC:
		return "tc", onlySkb(), contextSkb, nil
	case onTracepoint:
		params := k.tracepoint(r.symbol())
		if params == nil {
			return "", nil, 0, errAbsent
		}
		res, err = resolveBTF(r, params)
		return "tp_btf", res, contextArray, err
	}
	symbols, err := k.known()
	if err != nil {
		return "", nil, 0, err
	}
	if _, instead := symbols.find(r.unless); instead {
		return "", nil, 0, fmt.Errorf("%w: %s serves instead", errAbsent, r.unless)
	}
	module, ok := symbols.find(r.symbol())
	if !ok {
		return "", nil, 0, errAbsent
	}
	if params := k.function(r.symbol(), module); params != nil {
		res, err = resolveBTF(r, params)
		if r.at == onReturn {
			return "fexit", res, contextArray, err
		}
		return "fentry", res, contextArray, err
	}
	res, err = resolvePositions(r)
	return "kprobe", res, contextRegs, err
}

// program makes the program of one row: the row's arguments and the selection
// are put into it, and its type and target set.
func (l *loader) program(h *hook, how string, res *resolved, ctx handover) (*ebpf.Program, error) {
	spec := l.spec.Programs[h.row.prog].Copy()
	args, err := hookArgs(uint16(h.id), res, ctx)
	if err != nil {
		return nil, err
	}
	skb, err := hookSkb(res, ctx)
	if err != nil {
		return nil, err
	}
	spec.Instructions = replaceFunction(spec.Instructions, bpf.FuncHookArgs, args)
	spec.Instructions = inlineFunction(spec.Instructions, bpf.FuncHookSkb, skb)
	spec.Instructions = replaceFunction(spec.Instructions, bpf.FuncSelMatch, l.selection)
	spec.Name = programName(h.row.name)
	switch how {
	case "fentry", "fexit", "tp_btf":
		spec.Type = ebpf.Tracing
		spec.AttachTo = h.row.symbol()
		spec.AttachType = tracingTypes[how]
	case "kprobe":
		spec.Type = ebpf.Kprobe
	case "tc":
		spec.Type = ebpf.SchedCLS
	}
	return l.make(spec)
}

// make loads a program that uses the shared maps.
func (l *loader) make(spec *ebpf.ProgramSpec) (*ebpf.Program, error) {
	for i := range spec.Instructions {
		ins := &spec.Instructions[i]
		if !ins.IsLoadFromMap() || ins.Reference() == "" {
			continue
		}
		m := l.maps[ins.Reference()]
		if m == nil {
			return nil, fmt.Errorf("program %s refers to unknown map %s", spec.Name, ins.Reference())
		}
		if err := ins.AssociateMap(m); err != nil {
			return nil, err
		}
	}
	// A collection of one, for the sake of the shared cache: parsing the
	// kernel's types anew for each program would take most of the time.
	coll, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{
		Programs: map[string]*ebpf.ProgramSpec{spec.Name: spec}, Types: l.spec.Types, ByteOrder: l.spec.ByteOrder,
	}, ebpf.CollectionOptions{Cache: l.kernel.cache, Programs: ebpf.ProgramOptions{LogLevel: l.log}})
	if err != nil {
		return nil, err
	}
	defer coll.Close()
	return coll.DetachProgram(spec.Name), nil
}

// programName marks our programs in bpftool's lists; the kernel keeps 15
// characters.
func programName(hook string) string {
	name := "sh_"
	for _, c := range hook {
		if c == '.' {
			c = '_'
		}
		name += string(c)
	}
	return name[:min(len(name), 15)]
}

// attach loads and attaches one hook. A row that this kernel cannot have
// becomes absent; that is an error only for a required one.
func (l *loader) attach(h *hook) error {
	how, res, err := l.load(h)
	if err == nil && how != "tc" { // devices come and go; tc.go attaches to each
		if err = l.step("attach " + h.row.name); err == nil {
			err = h.attach(how)
		}
	}
	if err != nil && how == "fentry" && res != nil {
		// A function may have BTF and still refuse a trampoline: one with more
		// than six arguments before 6.6, or one whose entry is taken.
		if regs, rerr := resolveRegs(res); rerr == nil {
			how = "kprobe"
			if kerr := l.loadAs(h, how, regs, contextRegs); kerr == nil {
				err = h.attach(how)
			}
		}
	}
	if err != nil {
		h.close()
		return h.absent(err)
	}
	h.how = how
	if how == "kprobe" {
		h.module = l.kernel.moduleOf(h.row.symbol())
	}
	return nil
}

// load makes the program of a row, in the way that the kernel's types suggest.
// res is nil if the row's arguments are not all to be found.
func (l *loader) load(h *hook) (how string, res *resolved, err error) {
	// The types of modules are read through those of the kernel, which several
	// goroutines must not do at once (a map of package btf is written).
	l.mu.Lock()
	how, res, ctx, err := l.kernel.plan(h.row)
	l.mu.Unlock()
	if err != nil {
		return how, nil, err
	}
	return how, res, l.loadAs(h, how, res, ctx)
}

func (l *loader) loadAs(h *hook, how string, res *resolved, ctx handover) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h.close()
	err := l.step("load " + h.row.name)
	var prog *ebpf.Program
	if err == nil {
		prog, err = l.program(h, how, res, ctx)
	}
	if err != nil {
		return fmt.Errorf("load %s: %w", h.row.name, err)
	}
	h.prog = prog
	return nil
}

// attach hangs a loaded program into its function or tracepoint.
func (h *hook) attach(how string) (err error) {
	if how == "kprobe" {
		if err := haveKprobes(); err != nil {
			return fmt.Errorf("attach %s: kprobe: %w", h.row.name, err)
		}
		h.link, err = link.Kprobe(h.row.symbol(), h.prog, nil)
	} else {
		h.link, err = link.AttachTracing(link.TracingOptions{Program: h.prog, AttachType: tracingTypes[how]})
	}
	if err != nil {
		return fmt.Errorf("attach %s: %w", h.row.name, err)
	}
	return nil
}

// tracingTypes are the attach types behind the words for how a hook attaches.
var tracingTypes = map[string]ebpf.AttachType{
	"fentry": ebpf.AttachTraceFEntry,
	"fexit":  ebpf.AttachTraceFExit,
	"tp_btf": ebpf.AttachTraceRawTp,
}

// resolveRegs checks that a function's arguments are all in registers.
func resolveRegs(res *resolved) (*resolved, error) {
	for _, s := range res.slots {
		if s.arg.from == argReturn || s.arg.n > 6 {
			return nil, errNoArgument
		}
	}
	return res, nil
}

func (h *hook) absent(err error) error {
	h.err = err
	if h.row.required {
		return fmt.Errorf("required hook %s: %w", h.row.name, err)
	}
	return nil
}

// close detaches in the order that leaves nothing half attached.
func (h *hook) close() {
	if h.link != nil {
		h.link.Close()
		h.link = nil
	}
	if h.prog != nil {
		h.prog.Close()
		h.prog = nil
	}
}

// attachAll attaches rows side by side: a trampoline waits for RCU grace
// periods, so that one after the other would take seconds.
func (l *loader) attachAll(hooks []*hook) error {
	var g errgroup.Group
	g.SetLimit(max(8, 2*runtime.NumCPU()))
	for _, h := range hooks {
		g.Go(func() error { return l.attach(h) })
	}
	return g.Wait()
}

// loader is what all hooks of a run share while they are loaded.
type loader struct {
	step      func(what string) error // see Config
	kernel    *kernel
	spec      *ebpf.CollectionSpec // nil once dropLoading was called
	maps      map[string]*ebpf.Map
	selection asm.Instructions
	log       ebpf.LogLevel // what the verifier is to say of a program that it accepts; 0: nothing

	mu sync.Mutex // held while programs are made: package btf needs it
}
