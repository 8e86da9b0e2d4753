// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/stackhop/stackhop/events"
)

// comingModules are those that come and go while the tool traces, with what hangs on
// them, and a function of each that it hooks.
var comingModules = []struct{ module, hooked string }{
	{"ip_vs", "ip_vs_leave"}, {"nf_tables", "nft_do_chain"}, {"nf_nat", "nf_nat_manip_pkt"},
}

// modulesPatience is how long the tool may take to notice modules, and to attach.
const modulesPatience = 2 * time.Minute

// modules: IPVS, nftables and NAT are loaded while the tool traces: what they do to a
// packet is seen from then on. Where hooks do not keep a module (kprobes, as on 5.10),
// it is unloaded and loaded again under the tool as well, and what it does then is
// seen, by the right names. It runs without the cluster, which needs these modules.
func (c *checker) modules() (err error) {
	was := loadedModules()
	if err := unloadAll(); err != nil {
		return err
	}
	defer func() {
		_, loadErr := output("modprobe", append([]string{"-a"}, was...)...)
		err = errors.Join(err, loadErr)
	}()
	if c.before, err = inventoryText(); err != nil {
		return err
	}
	bare := c.tool
	bare.names = ""
	s, err := bare.start("--no-kube", "tcp and host "+modulesVIP)
	if err != nil {
		return err
	}
	defer s.cmd.Process.Kill() // if it goes on, the check has failed
	reloads := 0
	for round := range 3 {
		if err := s.await(func() bool { return !hooked("ip_vs_leave") }); err != nil {
			return err
		}
		start := time.Now()
		if err := c.withModules(s); err != nil {
			return fmt.Errorf("round %d: %w", round, err)
		}
		c.fact("round %d: seen %.1f s after they were loaded", round, time.Since(start).Seconds())
		err := unloadAll()
		if errors.Is(err, unix.EWOULDBLOCK) {
			c.fact("the hooks keep modules loaded: %v", err)
			break
		}
		if err != nil {
			return err
		}
		reloads++
	}
	if err := s.interrupt(); err != nil {
		return err
	}
	c.fact("unloaded under the tool %d times; it said: %s", reloads, strings.Join(s.summary(), " | "))
	return c.ended(s, max(reloads, 1))
}

// modulesVIP is a virtual service without a real server, on this guest's loopback.
const modulesVIP = "10.99.0.1"

// withModules loads the modules and sends to a virtual service.
func (c *checker) withModules(s *session) error {
	if _, err := output("modprobe", "-a", "ip_vs", "ip_vs_rr", "nf_nat", "nf_tables", "nft_chain_nat", "nft_masq"); err != nil {
		return err
	}
	deadline := time.Now().Add(modulesPatience)
	late := false
	for _, m := range comingModules {
		if err := s.await(func() bool { late = time.Now().After(deadline); return late || hooked(m.hooked) }); err != nil {
			return err
		}
		if late {
			return fmt.Errorf("%s was loaded, and %s not hooked %v later", m.module, m.hooked, modulesPatience)
		}
	}
	for _, argv := range [][]string{{"ip", "addr", "replace", modulesVIP + "/32", "dev", "lo"}, {"ipvsadm", "-A", "-t", modulesVIP + ":80", "-s", "rr"}} {
		if _, err := output(argv[0], argv[1:]...); err != nil {
			return err
		}
	}
	before, err := s.soFar()
	if err != nil {
		return err
	}
	// Refused or timed out, as the kernel likes: what counts is where it ended.
	_ = exec.Command("busybox", "nc", "-w", "1", modulesVIP, "80").Run()
	seen := func() bool {
		all, ferr := s.soFar()
		err = ferr
		return ferr != nil || slices.ContainsFunc(all[len(before):], endsInIPVS) || time.Now().After(deadline)
	}
	if awaitErr := s.await(seen); awaitErr != nil {
		return awaitErr
	}
	_, clearErr := output("ipvsadm", "-C")
	return errors.Join(err, clearErr)
}

// loadedModules are the names of all that are loaded.
func loadedModules() (names []string) {
	for _, line := range lines("/proc/modules") {
		name, _, _ := strings.Cut(line, " ")
		names = append(names, name)
	}
	return names
}

// unloadAll unloads the modules and all that hangs on them.
func unloadAll() error {
	for _, m := range comingModules {
		if err := unload(m.module); err != nil {
			return err
		}
	}
	return nil
}

// unload unloads a module, after those that use it. EWOULDBLOCK: something else does.
func unload(module string) error {
	for _, line := range lines("/proc/modules") {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] != module {
			continue
		}
		for _, user := range strings.Split(strings.Trim(f[3], ",-"), ",") {
			if user == "" {
				continue
			}
			if err := unload(user); err != nil {
				return err
			}
		}
		if err := unix.DeleteModule(module, unix.O_NONBLOCK); err != nil {
			return fmt.Errorf("unload %s: %w", module, err)
		}
	}
	return nil
}

// hooked says whether anything is attached to a function.
func hooked(function string) bool {
	for _, dir := range []string{"/sys/kernel/tracing", "/sys/kernel/debug/tracing"} {
		text, err := os.ReadFile(filepath.Join(dir, "enabled_functions"))
		if err == nil {
			return slices.ContainsFunc(strings.Split(string(text), "\n"), func(line string) bool { return strings.HasPrefix(line, function+" ") })
		}
	}
	return false
}

func endsInIPVS(t *events.Traversal) bool {
	return t.Direction == "request" && t.Where == "ipvs" && t.Reason == "no-destination"
}

// ended holds what a session said against the packets that were sent: each ended in
// IPVS, and no function is called by the name of another.
func (c *checker) ended(s *session, rounds int) error {
	all, err := s.traversals()
	if err != nil {
		return err
	}
	good := 0
	for _, t := range all {
		if endsInIPVS(t) {
			good++
		}
		if t.Location != "" && t.Verdict == events.Terminated {
			c.fact("%s; at %s", t.Summary, t.Location)
		}
	}
	if good < rounds {
		return fmt.Errorf("%d packets ended in IPVS, of %d rounds: %s", good, rounds, s.stdout.String())
	}
	// What it had hooked it lets go of in its own time.
	start := time.Now()
	for err = unloadAll(); errors.Is(err, unix.EWOULDBLOCK) && time.Since(start) < unwinding; err = unloadAll() {
	}
	if err != nil {
		return err
	}
	if _, err := output("ip", "addr", "del", modulesVIP+"/32", "dev", "lo"); err != nil {
		return err
	}
	return c.clean("modules came and went")
}
