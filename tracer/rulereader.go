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

// Bounds of one tool that lists rules. A node in trouble may be slow.
const (
	toolPatience = 10 * time.Second
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
// kernel has its part already, since it would load that otherwise. nftables says
// whether nf_tables is built into the kernel.
func readRules(ctx context.Context, path string, nftables bool) readResult {
	r := &ruleReader{ctx: ctx, set: ruleset.New(), builtin: nftables}
	done := make(chan error)
	go func() {
		// Never unlocked: the thread is in another namespace, and ends with the
		// goroutine. The tools are started from it, and so run there.
		runtime.LockOSThread()
		done <- r.in(path)
	}()
	if err := <-done; err != nil {
		return readResult{missing: []missingRules{{err: err}}}
	}
	return readResult{r.set, r.size, r.missing}
}

// readResult is what was read of a namespace's rules; set is nil if nothing was.
type readResult struct {
	set     *ruleset.Ruleset
	size    int // bytes that the tools listed
	missing []missingRules
}

// missingRules are rules that could not be read.
type missingRules struct {
	engine string // empty: of all
	family uint8  // NFPROTO_*; 0: of all
	err    error
}

// concerning is why rules are missing that packets of a kind may have met; nil:
// none are. Sets that are missing make each rule that asks for them undecided.
func (r *readResult) concerning(engine string, family uint8) error {
	for _, m := range r.missing {
		if m.engine == engineSets || (m.engine != "" && engine != "" && m.engine != engine) || (m.family != 0 && m.family != family) {
			continue
		}
		return m.err
	}
	return nil
}

// engineSets is what missing ipsets are of.
const engineSets = "ipset"

// ruleReader reads the rules of the namespace that its thread is in.
type ruleReader struct {
	ctx  context.Context //nolint:containedctx // of the one reading
	set  *ruleset.Ruleset
	size int
	sets bool // some rule asks for an ipset
	// builtin: nf_tables is there, although it is not a module.
	builtin bool
	missing []missingRules
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
		r.try(missingRules{engine: engineSets}, "ipset", r.set.AddIPSets, "save")
	}
	return nil
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
	// The rules' texts are only shown, so that they may be missing.
	var texts ruleset.Texts
	text, err := r.run("nft", "-a", "-t", "list", "ruleset")
	switch {
	case errors.Is(err, errToolMissing):
		// iptables may be all there is, and its own tables all it wrote.
		r.missing = append(r.missing, missingRules{engine: events.EngineNFTables, err: err})
		r.iptables(false, events.EngineIPTablesNFT)
		r.iptables(true, events.EngineIPTablesNFT)
		return
	case err == nil:
		texts = ruleset.NFTTexts(text)
	}
	r.try(missingRules{engine: events.EngineNFTables}, "nft", func(listing []byte) error { return r.set.AddNFTables(listing, texts) }, "-j", "-a", "list", "ruleset")
	for _, v6 := range []bool{false, true} {
		if r.set.HasIPTables(v6) {
			r.iptables(v6, events.EngineIPTablesNFT)
		}
	}
}

// iptables reads what one of the two variants wrote.
func (r *ruleReader) iptables(v6 bool, engine string) {
	prefix, variant := "iptables", "legacy"
	of := missingRules{engine: events.EngineIPTables, family: 2} // NFPROTO_IPV4
	if v6 {
		prefix, of.family = "ip6tables", 10 // NFPROTO_IPV6
	}
	if engine == events.EngineIPTablesNFT {
		variant, of.engine = "nft", events.EngineNFTables
	}
	tool := prefix + "-" + variant + "-save"
	if _, err := findTool(tool); err != nil {
		plain := prefix + "-save"
		version, err := r.run(plain, "-V")
		if err != nil || strings.Contains(string(version), "nf_tables") != (variant == "nft") {
			of.err = fmt.Errorf("%s %w", tool, errToolMissing)
			r.missing = append(r.missing, of)
			return
		}
		tool = plain
	}
	r.try(of, tool, func(listing []byte) error {
		r.sets = r.sets || bytes.Contains(listing, []byte("--match-set"))
		return r.set.AddIPTables(listing, v6, engine)
	})
}

// try runs a tool and takes in what it printed. of says which rules are missing if
// that fails.
func (r *ruleReader) try(of missingRules, tool string, take func([]byte) error, args ...string) {
	out, err := r.run(tool, args...)
	if err == nil {
		err = take(out)
		if err != nil {
			err = fmt.Errorf("%s: %w", tool, err)
		}
	}
	if of.err = err; err != nil {
		r.missing = append(r.missing, of)
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
