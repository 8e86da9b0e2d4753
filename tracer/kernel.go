// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

// kernel answers what the running kernel has: symbols and types.
type kernel struct {
	release string
	// symbols is nil until they have been read, see known: then reading is closed, and
	// readError is why they could not be.
	symbols    atomic.Pointer[symbols]
	reading    chan struct{}
	readError  error
	background sync.WaitGroup
	// asked is when symbolAt last looked for new modules, by the monotonic clock;
	// modules are those that it found then.
	asked   atomic.Uint64
	modules atomic.Pointer[string]
	types   *btf.Spec // nil once dropTypes was called
	cache   *btf.Cache
	// frozen: symbols are not read again, since their addresses would be missing.
	frozen atomic.Bool
	// trampolines says that fentry works here; checkFunctionHooks finds out.
	trampolines bool
}

// errNoBTF says that the kernel describes no types.
var errNoBTF = errors.New("the kernel has no BTF (/sys/kernel/btf/vmlinux)")

func newKernel() *kernel { return &kernel{release: release(), reading: make(chan struct{})} }

func readKernel() (*kernel, error) {
	k := newKernel()
	k.startSymbols()
	if err := k.readTypes(); err != nil {
		return nil, err
	}
	_, err := k.known()
	return k, err
}

// startSymbols begins to read the symbols, which the kernel takes 0.1 s or more to write
// down, and known waits for.
func (k *kernel) startSymbols() {
	k.background.Go(func() {
		defer close(k.reading)
		s, err := readSymbols()
		if err != nil {
			k.readError = err
			return
		}
		k.symbols.Store(s)
	})
}

// known returns the symbols, which it waits for.
func (k *kernel) known() (*symbols, error) {
	if s := k.symbols.Load(); s != nil {
		return s, nil
	}
	<-k.reading
	return k.symbols.Load(), k.readError
}

// awaitSymbols waits for the symbols where no hook has asked for any.
func (k *kernel) awaitSymbols() error {
	_, err := k.known()
	return err
}

// symbolAgain is how often symbolAt looks for modules that are new.
const symbolAgain = uint64(time.Second)

// symbolAt names the function that holds an address. A packet may end in a module
// that was loaded a moment ago: if there are others than before the symbols are read
// again. That takes a while, and nobody reads events meanwhile.
func (k *kernel) symbolAt(addr uint64) string {
	known := k.symbols.Load()
	name := known.name(addr)
	if name != "" || addr == 0 || !known.visible() || k.frozen.Load() {
		return name
	}
	now, last := monotonic(), k.asked.Load()
	if now-last < symbolAgain || !k.asked.CompareAndSwap(last, now) {
		return ""
	}
	modules := loadedModules()
	if before := k.modules.Swap(&modules); before != nil && *before == modules {
		return ""
	}
	symbols, err := readSymbols()
	if err != nil {
		return "" // as attaching to new modules will say
	}
	k.symbols.Store(symbols)
	return symbols.name(addr)
}

// moduleOf is the module that a function is in, as loadedModules has it; "": none.
func (k *kernel) moduleOf(function string) string {
	symbols, err := k.known()
	if err != nil {
		return ""
	}
	if name, ok := symbols.find(function); ok && name != "" {
		return loadedModule(name)
	}
	return ""
}

// readTypes reads the types of the kernel, and of modules when they are asked for.
func (k *kernel) readTypes() (err error) {
	k.cache = btf.NewCache()
	if k.types, err = k.cache.Kernel(); err != nil {
		return fmt.Errorf("%w: stackhop needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (Debian, Ubuntu, Fedora and RHEL kernels of the last years are): %w", errNoBTF, err)
	}
	return nil
}

// dropTypes gives back what types take.
func (k *kernel) dropTypes() { k.types, k.cache = nil, nil }

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// function returns the prototype of a kernel function, nil without BTF for it.
func (k *kernel) function(name, module string) []btf.FuncParam {
	types := k.types
	if module != "" {
		var err error
		if types, err = k.cache.Module(module); err != nil {
			return nil // modules on 5.10 have none
		}
	}
	var fn *btf.Func
	if err := types.TypeByName(name, &fn); err != nil {
		return nil
	}
	proto, ok := fn.Type.(*btf.FuncProto)
	if !ok {
		return nil
	}
	return proto.Params
}

// tracepoint returns what a BTF tracepoint passes, nil if there is none.
func (k *kernel) tracepoint(name string) []btf.FuncParam {
	var def *btf.Typedef
	if err := k.types.TypeByName("btf_trace_"+name, &def); err != nil {
		return nil
	}
	ptr, ok := def.Type.(*btf.Pointer)
	if !ok {
		return nil
	}
	proto, ok := ptr.Target.(*btf.FuncProto)
	if !ok || len(proto.Params) == 0 {
		return nil
	}
	return proto.Params[1:] // the first is the tracepoint's own data
}

// checkLayout verifies what the programs take for granted beyond CO-RE: that
// parts of struct sk_buff stand next to each other (struct skb_ends, skb_starts).
func (k *kernel) checkLayout() error {
	var skb *btf.Struct
	if err := k.types.TypeByName("sk_buff", &skb); err != nil {
		return fmt.Errorf("struct sk_buff: %w", err)
	}
	at := map[string]btf.Bits{}
	for _, m := range skb.Members {
		at[m.Name] = m.Offset
	}
	if at["end"] != at["tail"]+32 || at["data"] != at["head"]+64 {
		return fmt.Errorf("struct sk_buff of kernel %s: tail, end, head and data are not where stackhop expects them", k.release)
	}
	return nil
}

func arch() string { return runtime.GOARCH }
