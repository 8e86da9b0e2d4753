// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// nothing: a selection that nothing of a busy lab matches costs no event.
func (c *checker) nothing() error {
	s, err := c.tool.start("host 192.0.2.99")
	if err != nil {
		return err
	}
	busy, err := output(c.me, "churn", "-totals", "-from", "centos", "-to", "nginx1a", "-dst", "172.23.96.163:9",
		"-flows", "8", "-packets", "4000")
	if err != nil {
		return err
	}
	if _, err := output(c.me, "cases", "-all"); err != nil {
		return err
	}
	if err := s.interrupt(); err != nil {
		return err
	}
	var report churnReport
	if err := json.Unmarshal(busy, &report); err != nil {
		return err
	}
	c.fact("%d packets sent and %d echoed at %.0f a second, and %d cases", report.Sent, report.Echoed, report.Rate, len(cases))
	text := strings.Join(s.summary(), "\n")
	const want = "0 packets matched with 0 events, 0 delivered to user space, 0 lost"
	if !strings.Contains(text, want) || !strings.Contains(text, "0 traversals") || len(s.stdout.Bytes()) > 0 {
		return fmt.Errorf("want %q and no traversal: %s", want, text)
	}
	c.fact("%s", want)
	return nil
}

// A hookCount is one line of `hooks --count -o json`.
type hookCount struct {
	Name string `json:"name"`
	How  string `json:"how"`
	Err  string `json:"err"`
	Hits uint64 `json:"hits"`
}

// hooks counts how often each hook fires over all traffic that the lab knows,
// and leaves the table for the caller, who knows what this kernel should have.
func (c *checker) hooks() error {
	out, err := output(c.tool.path, "hooks", "--count", "-o", "json", "--", "sh", "-c", c.me+" cases -all && "+c.me+" oddities")
	if err != nil {
		return err
	}
	fired := 0
	var table []string
	for dec := json.NewDecoder(bytes.NewReader(out)); dec.More(); {
		var h hookCount
		if err := dec.Decode(&h); err != nil {
			return fmt.Errorf("read the table of hooks: %w", err)
		}
		state := "silent"
		switch {
		case h.How == "" || h.How == "absent":
			state = "absent"
		case h.Hits > 0:
			state = "fires"
			fired++
		}
		table = append(table, fmt.Sprintf("%-28s %s", h.Name, state))
	}
	c.fact("%d of %d hooks fired", fired, len(table))
	return c.leave("hooks", strings.Join(table, "\n")+"\n")
}

// doctor runs `doctor`, which must find that all hooks work here, and leaves
// what it says for the caller, who knows what this kernel should have.
func (c *checker) doctor() error {
	out, err := output(c.tool.path, "doctor")
	if leaveErr := c.leave("doctor", string(out)); err == nil {
		err = leaveErr
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	const want = "stackhop trace works here, with all hooks"
	if !strings.HasSuffix(string(out), "\n"+want+"\n") {
		return fmt.Errorf("does not end with %q:\n%s", want, out)
	}
	c.fact("%s", want)
	return nil
}

// leave gives the caller a file, or shows it to who has no folder for it.
func (c *checker) leave(name, text string) error {
	if c.outDir == "" {
		fmt.Print(text)
		return nil
	}
	return writeFile(filepath.Join(c.outDir, name), text)
}

// unwinding is how long the kernel may take to let go of what was attached.
// Under emulation freeing a trampoline waits for slow grace periods.
const unwinding = 30 * time.Second

// leftovers: however the tool ends, the kernel is as it was.
func (c *checker) leftovers() error {
	// One session that ends by itself, one that ends by Ctrl-C.
	if _, _, err := c.tool.around([]string{"tcp"}, c.me, "case", "5"); err != nil {
		return err
	}
	if err := c.clean("a normal end"); err != nil {
		return err
	}
	if s, err := c.tool.start("tcp"); err != nil {
		return err
	} else if err := s.interrupt(); err != nil {
		return err
	}
	if err := c.clean("SIGINT"); err != nil {
		return err
	}
	start := time.Now()
	s, err := c.tool.start("tcp")
	if err != nil {
		return err
	}
	attach := time.Since(start)
	during, err := inventoryText()
	if err != nil {
		return err
	}
	more := diff(c.before, during)
	if len(more) < 20 {
		return fmt.Errorf("the inventory does not see an attached tool: %d lines differ", len(more))
	}
	c.fact("attached after %.1f s, %d lines of inventory more", attach.Seconds(), len(more))
	if status, err := s.signal(syscall.SIGTERM); err != nil || status != 0 {
		return fmt.Errorf("SIGTERM: status %d, error %v", status, err)
	}
	if err := c.clean("SIGTERM"); err != nil {
		return err
	}
	return c.killAtRandom(attach)
}

// killAtRandom kills the tool at a random moment while it attaches. (Natively that is
// done at twenty, half of them later: tracer.TestNativeKilledAtRandomMoments.)
func (c *checker) killAtRandom(attach time.Duration) error {
	moment := time.Duration(c.random.Int64N(int64(attach)))
	s, err := c.tool.begin("tcp")
	if err != nil {
		return err
	}
	<-time.After(moment)
	if _, err := s.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return c.clean(fmt.Sprintf("SIGKILL %.3f s after the start", moment.Seconds()))
}

// clean waits until the inventory is as it was before.
func (c *checker) clean(after string) error {
	start := time.Now()
	if _, err := c.unwound(after, func(string) bool { return true }); err != nil {
		return err
	}
	c.fact("after %s: nothing left after %.1f s", after, time.Since(start).Seconds())
	return nil
}

// anew compares with how the kernel is now from here on: with the modules and settings
// that checks need, but without what their tools had attached, which it may still be
// letting go of.
func (c *checker) anew() (err error) {
	c.before, err = c.unwound("the checks before", func(line string) bool { return attached.MatchString(line) })
	return err
}

// attached are the lines of an inventory about what tools attach.
var attached = regexp.MustCompile(`^(new|gone): (bpf|pinned|tracefs|kprobe) |^(new|gone): netns \S+ (qdisc|filter|xdp) `)

// unwound waits until an inventory has no line of a kind that it had not before.
func (c *checker) unwound(after string, kind func(line string) bool) ([]string, error) {
	start := time.Now()
	for {
		now, err := inventoryText()
		if err != nil {
			return nil, err
		}
		left := slices.DeleteFunc(diff(c.before, now), func(line string) bool { return !kind(line) })
		if len(left) == 0 {
			return now, nil
		}
		if time.Since(start) > unwinding {
			left = append(left[:min(20, len(left))], kernelWarning()...)
			return nil, fmt.Errorf("after %s, %v later:\n      %s", after, unwinding, strings.Join(left, "\n      "))
		}
	}
}

func inventoryText() ([]string, error) {
	var b bytes.Buffer
	if err := snapshot(&b); err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSpace(b.String()), "\n"), nil
}

// diff is what two sorted inventories do not have in common.
func diff(before, now []string) (out []string) {
	count := map[string]int{}
	for _, line := range before {
		count[line]--
	}
	for _, line := range now {
		count[line]++
	}
	for _, line := range append(append([]string{}, before...), now...) {
		switch n := count[line]; {
		case n > 0:
			out = append(out, "new: "+line)
		case n < 0:
			out = append(out, "gone: "+line)
		}
		count[line] = 0
	}
	return out
}
