// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
	"github.com/stackhop/stackhop/events/ruleset"
)

// Bounds of one tool that lists rules.
const (
	toolPatience = 5 * time.Second
	toolOutput   = 64 << 20
)

// toolDirs are where the tools are looked for, whatever PATH is.
var toolDirs = []string{"/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin"}

var (
	errToolMissing = errors.New("is not installed")
	errOutput      = errors.New("lists more than is read")
)

// readRules reads the netfilter rules of the namespace that a file opens, and how
// many bytes the tools listed. It changes nothing: a tool runs only where the
// kernel has its part already, since it would load that otherwise. What could not
// be read is in the error, beside what could. nftables says whether nf_tables is built
// into the kernel.
func readRules(ctx context.Context, path string, nftables bool) (*ruleset.Ruleset, int, error) {
	r := &ruleReader{ctx: ctx, set: ruleset.New(), builtin: nftables}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread is in another namespace, and ends with the
		// goroutine. The tools are started from it, and so run there.
		runtime.LockOSThread()
		done <- r.in(path)
	}()
	err := <-done
	return r.set, r.size, err
}

// ruleReader reads the rules of the namespace that its thread is in.
type ruleReader struct {
	ctx  context.Context //nolint:containedctx // of the one reading
	set  *ruleset.Ruleset
	size int
	sets bool // some rule asks for an ipset
	// builtin: nf_tables is there, although it is not a module.
	builtin bool
	errs    []error
}

func (r *ruleReader) in(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("the namespace: %w", err)
	}
	defer f.Close()
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the namespace: %w", err)
	}
	if _, err := os.Stat("/sys/module/nf_tables"); err == nil || r.builtin {
		r.nftables()
	}
	for _, v6 := range []bool{false, true} {
		if legacyTables(v6) {
			r.iptables(v6, events.EngineIPTables)
		}
	}
	if r.sets {
		r.try("ipset", r.set.AddIPSets, "save")
	}
	return errors.Join(r.errs...)
}

// legacyTables says whether this thread's namespace has tables of iptables.
func legacyTables(v6 bool) bool {
	name := "/proc/thread-self/net/ip_tables_names"
	if v6 {
		name = "/proc/thread-self/net/ip6_tables_names"
	}
	names, err := os.ReadFile(name)
	return err == nil && len(bytes.TrimSpace(names)) > 0
}

// nftables reads what is in nf_tables: nft's own, and iptables' in iptables' words.
func (r *ruleReader) nftables() {
	var texts ruleset.Texts
	text, err := r.run("nft", "-a", "-t", "list", "ruleset")
	if errors.Is(err, errToolMissing) {
		// iptables may be all there is, and its own tables all it wrote.
		r.errs = append(r.errs, err)
		r.iptables(false, events.EngineIPTablesNFT)
		r.iptables(true, events.EngineIPTablesNFT)
		return
	}
	if err == nil {
		texts = ruleset.NFTTexts(text)
	}
	r.try("nft", func(listing []byte) error { return r.set.AddNFTables(listing, texts) }, "-j", "-a", "list", "ruleset")
	for _, v6 := range []bool{false, true} {
		if r.set.HasIPTables(v6) {
			r.iptables(v6, events.EngineIPTablesNFT)
		}
	}
}

// iptables reads what one of the two variants wrote.
func (r *ruleReader) iptables(v6 bool, engine string) {
	prefix, variant := "iptables", "legacy"
	if v6 {
		prefix = "ip6tables"
	}
	if engine == events.EngineIPTablesNFT {
		variant = "nft"
	}
	tool := prefix + "-" + variant + "-save"
	if _, err := findTool(tool); err != nil {
		plain := prefix + "-save"
		version, err := r.run(plain, "-V")
		if err != nil || strings.Contains(string(version), "nf_tables") != (variant == "nft") {
			r.errs = append(r.errs, fmt.Errorf("%s %w", tool, errToolMissing))
			return
		}
		tool = plain
	}
	r.try(tool, func(listing []byte) error {
		r.sets = r.sets || bytes.Contains(listing, []byte("--match-set"))
		return r.set.AddIPTables(listing, v6, engine)
	})
}

// try runs a tool and takes in what it printed.
func (r *ruleReader) try(tool string, take func([]byte) error, args ...string) {
	out, err := r.run(tool, args...)
	if err == nil {
		err = take(out)
		if err != nil {
			err = fmt.Errorf("%s: %w", tool, err)
		}
	}
	if err != nil {
		r.errs = append(r.errs, err)
	}
}

func findTool(tool string) (string, error) {
	for _, dir := range toolDirs {
		path := filepath.Join(dir, tool)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s %w", tool, errToolMissing)
}

// run runs a tool on this thread, and so in its namespace.
func (r *ruleReader) run(tool string, args ...string) ([]byte, error) {
	path, err := findTool(tool)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.ctx, toolPatience)
	defer cancel()
	out := &boundedBuffer{left: toolOutput, full: cancel}
	messages := &boundedBuffer{left: 4 << 10}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"LC_ALL=C", "PATH=" + strings.Join(toolDirs, ":")}
	cmd.Stdout, cmd.Stderr = out, messages
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	r.size += out.Len()
	switch {
	case out.over:
		return nil, fmt.Errorf("%s %w", tool, errOutput)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", tool, ctx.Err())
	case err != nil:
		line, _, _ := strings.Cut(strings.TrimSpace(messages.String()), "\n")
		return nil, fmt.Errorf("%s: %w: %.200s", tool, err, line)
	}
	return out.Bytes(), nil
}

// boundedBuffer keeps what a tool prints, up to a bound. Beyond it full is called,
// if there is one.
type boundedBuffer struct {
	bytes.Buffer
	left int
	over bool
	full func()
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	take := min(len(p), b.left)
	b.left -= take
	b.Buffer.Write(p[:take])
	if take < len(p) {
		b.over = true
		if b.full != nil {
			b.full()
		}
	}
	return len(p), nil
}
