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
	"os/signal"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// bare are programs that return at once, on the functions, tracepoints and devices that
// the tool hooks: what the kernel takes to run hooks at all, and to attach and detach
// them as this tool does, several side by side.
type bare struct {
	cache *btf.Cache
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
	instead string // what the tool takes where the kernel refuses it
}

var bareKinds = map[string]bareKind{
	"fentry":    {ebpf.Tracing, ebpf.AttachTraceFEntry, hangTracing, "kprobe"},
	"fexit":     {ebpf.Tracing, ebpf.AttachTraceFExit, hangTracing, ""},
	"tp_btf":    {ebpf.Tracing, ebpf.AttachTraceRawTp, hangTracing, ""},
	"kprobe":    {program: ebpf.Kprobe, hang: func(symbol string, p *ebpf.Program) (link.Link, error) { return link.Kprobe(symbol, p, nil) }},
	"kretprobe": {program: ebpf.Kprobe, hang: func(symbol string, p *ebpf.Program) (link.Link, error) { return link.Kretprobe(symbol, p, nil) }},
}

func hangTracing(_ string, p *ebpf.Program) (link.Link, error) {
	return link.AttachTracing(link.TracingOptions{Program: p})
}

// bareSide is how many are attached side by side, as many as the tool does at least.
const bareSide = 8

// cmdBare runs beside traffic until Ctrl-C.
func cmdBare(args []string) error {
	fs := flags("bare")
	list := fs.String("hooks", "", "the tool's own `LIST` of them, as JSON")
	if err := fs.Parse(args); err != nil {
		return err
	}
	var hooks []bareHook
	if err := json.Unmarshal([]byte(*list), &hooks); err != nil {
		return fmt.Errorf("-hooks: %w", err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ended := make(chan error)
	go func() { // not on the first thread, see drain
		b := &bare{cache: btf.NewCache()}
		err := b.start(hooks, fs.Args())
		if err == nil {
			fmt.Printf("%d hooks on functions and tracepoints, %d on devices\n%s\n", len(b.links)-b.tc, b.tc, bpftraceReady)
			<-ctx.Done()
		}
		ended <- errors.Join(err, b.close())
	}()
	return <-ended
}

func (b *bare) start(hooks []bareHook, namespaces []string) error {
	var g errgroup.Group
	g.SetLimit(bareSide)
	var mu sync.Mutex // held while programs are made: package btf needs it
	for _, h := range hooks {
		g.Go(func() error {
			l, err := b.attach(&mu, h, h.How)
			if instead := bareKinds[h.How].instead; err != nil && instead != "" {
				l, err = b.attach(&mu, h, instead)
			}
			if err != nil {
				return fmt.Errorf("attach to %s: %w", h.Function, err)
			}
			mu.Lock()
			defer mu.Unlock()
			b.links = append(b.links, l)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p, err := b.load(bareKind{program: ebpf.SchedCLS}, "", bareNext)
	if err != nil {
		return err
	}
	defer p.Close()
	for _, name := range namespaces {
		if err := inNetns(name, func() error { return b.devices(p) }); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bare) attach(mu *sync.Mutex, h bareHook, how string) (link.Link, error) {
	kind := bareKinds[how]
	mu.Lock()
	p, err := b.load(kind, h.Function, 0)
	mu.Unlock()
	if err != nil {
		return nil, err
	}
	defer p.Close() // the link keeps it
	return kind.hang(h.Function, p)
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

// bareNext lets the next program, or nobody, decide: TCX_NEXT, TC_ACT_UNSPEC.
const bareNext = -1

// load makes a program that returns a number at once.
func (b *bare) load(kind bareKind, function string, returns int32) (*ebpf.Program, error) {
	spec := &ebpf.ProgramSpec{Name: "lab_bare", Type: kind.program, AttachType: kind.attach, License: "Dual BSD/GPL",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, returns), asm.Return()}}
	if kind.program == ebpf.Tracing {
		spec.AttachTo = function
	}
	// A collection, for the sake of the cache: a program alone reads all types anew.
	all, err := ebpf.NewCollectionWithOptions(&ebpf.CollectionSpec{Programs: map[string]*ebpf.ProgramSpec{spec.Name: spec}},
		ebpf.CollectionOptions{Cache: b.cache})
	if err != nil {
		return nil, err
	}
	defer all.Close()
	return all.DetachProgram(spec.Name), nil
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
			if errors.Is(err, unix.ENODEV) {
				break // it has gone meanwhile
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
	var g errgroup.Group
	for _, l := range b.links {
		g.Go(l.Close)
	}
	return g.Wait()
}
