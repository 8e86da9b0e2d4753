// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
)

// bare are programs that return at once, on the functions, tracepoints and devices that
// the tool hooks: what the kernel takes to run hooks at all, and to attach and detach
// them, which no tracer of these can be below.
type bare struct {
	hooks []bareHook
	links []link.Link
	tc    int // links on devices
}

// A bareHook is a line of the tool's own list.
type bareHook struct{ Name, Function, How string }

// bareKind is how a program of this kind comes to its place.
type bareKind struct {
	program ebpf.ProgramType
	attach  ebpf.AttachType // of tracing programs
	hang    func(symbol string, p *ebpf.Program) (link.Link, error)
}

var bareKinds = map[string]bareKind{
	"fentry": {ebpf.Tracing, ebpf.AttachTraceFEntry, hangTracing},
	"fexit":  {ebpf.Tracing, ebpf.AttachTraceFExit, hangTracing},
	"tp_btf": {ebpf.Tracing, ebpf.AttachTraceRawTp, hangTracing},
	"kprobe": {ebpf.Kprobe, 0, func(symbol string, p *ebpf.Program) (link.Link, error) { return link.Kprobe(symbol, p, nil) }},
	"kretprobe": {ebpf.Kprobe, 0, func(symbol string, p *ebpf.Program) (link.Link, error) {
		return link.Kretprobe(symbol, p, nil)
	}},
}

func hangTracing(_ string, p *ebpf.Program) (link.Link, error) {
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// cmdBare runs beside traffic until Ctrl-C.
func cmdBare(args []string) error {
	fs := flags("bare")
	path := fs.String("tool", "", "stackhop's program, whose hooks these are")
	tracepoints := fs.Bool("tracepoints", false, "only tracepoints and devices")
	if err := fs.Parse(args); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ended := make(chan error)
	go func() { // not on the first thread, see drain
		b := &bare{}
		err := b.start(*path, *tracepoints, fs.Args())
		if err == nil {
			fmt.Printf("%d hooks on functions and tracepoints, %d on devices\n%s\n", len(b.links)-b.tc, b.tc, bpftraceReady)
			<-ctx.Done()
		}
		ended <- errors.Join(err, b.close())
	}()
	return <-ended
}

func (b *bare) start(tool string, tracepoints bool, namespaces []string) error {
	list, err := exec.Command(tool, "hooks", "-o", "json").Output()
	if err != nil {
		return fmt.Errorf("list the tool's hooks: %w", err)
	}
	if b.hooks, err = bareHooks(list, tracepoints); err != nil {
		return err
	}
	programs, err := b.load()
	if err != nil {
		return err
	}
	defer programs.Close()
	for _, h := range b.hooks {
		l, err := bareKinds[h.How].hang(h.Function, programs.Programs[h.key()])
		if err != nil {
			return fmt.Errorf("attach to %s: %w", h.Function, err)
		}
		b.links = append(b.links, l)
	}
	for _, name := range namespaces {
		if err := inNetns(name, func() error { return b.devices(programs.Programs[bareTC]) }); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// bareHooks reads the list, without what this kernel does not have.
func bareHooks(list []byte, tracepoints bool) (hooks []bareHook, err error) {
	dec := json.NewDecoder(bytes.NewReader(list))
	for {
		var h bareHook
		if err := dec.Decode(&h); errors.Is(err, io.EOF) {
			return hooks, nil
		} else if err != nil {
			return nil, fmt.Errorf("the tool's list of hooks: %w", err)
		}
		_, known := bareKinds[h.How]
		switch {
		case h.How == "absent" || h.How == "tc":
		case tracepoints && !strings.HasPrefix(h.How, "tp_"):
		case !known:
			return nil, fmt.Errorf("hook %s attaches by %s, which is not known", h.Name, h.How)
		default:
			hooks = append(hooks, h)
		}
	}
}

func (h *bareHook) key() string { return h.How + " " + h.Name }

// bareTC is the key of the program for devices.
const bareTC = "tc"

// load loads a program for each hook: together, for the sake of the kernel's types.
func (b *bare) load() (*ebpf.Collection, error) {
	program := func(t ebpf.ProgramType, returns int32) *ebpf.ProgramSpec {
		return &ebpf.ProgramSpec{Name: "lab_bare", Type: t, License: "Dual BSD/GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, returns), asm.Return()}}
	}
	const next = -1 // TCX_NEXT, TC_ACT_UNSPEC
	all := map[string]*ebpf.ProgramSpec{bareTC: program(ebpf.SchedCLS, next)}
	for _, h := range b.hooks {
		kind := bareKinds[h.How]
		p := program(kind.program, 0)
		if p.AttachType = kind.attach; kind.program == ebpf.Tracing {
			p.AttachTo = h.Function
		}
		all[h.key()] = p
	}
	return ebpf.NewCollection(&ebpf.CollectionSpec{Programs: all})
}

// devices attaches to both sides of each device of the thread's namespace, where the
// kernel has links for that (6.6).
func (b *bare) devices(p *ebpf.Program) error {
	devices, err := netlink.LinkList()
	if err != nil {
		return err
	}
	return b.cover(devices, p)
}

func (b *bare) cover(devices []netlink.Link, p *ebpf.Program) error {
	for _, d := range devices {
		for _, side := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			l, err := link.AttachTCX(link.TCXOptions{Interface: d.Attrs().Index, Program: p, Attach: side})
			if errors.Is(err, ebpf.ErrNotSupported) {
				return nil
			}
			if err != nil {
				return fmt.Errorf("attach to %s: %w", d.Attrs().Name, err)
			}
			b.links = append(b.links, l)
			b.tc++
		}
	}
	return nil
}

func (b *bare) close() error {
	var errs []error
	for _, l := range b.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}
