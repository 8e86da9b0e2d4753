// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tracer

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/ipvs"
)

// Facts reads what the filter asks for, as it is now. What cannot be read is
// named in the answer. It may be called from any goroutine until Close.
func (t *Tracer) Facts(f FactsFilter) Facts {
	var out Facts
	if t.frozen() {
		out.miss("settings, IPVS services and conntrack entries: %v", errFrozen)
		return out
	}
	paths := t.names.now.Load().paths
	haveIPVS := t.kernel.has("ip_vs_schedule")
	for _, inode := range f.Netns {
		path, ok := paths[inode]
		if !ok {
			out.miss("namespace %d: it has vanished", inode)
			continue
		}
		if err := inNamespace(path, func() { out.readSysctls(inode) }); err != nil {
			out.miss("settings of namespace %d: %v", inode, err)
		}
		if haveIPVS { // asking would load the module
			out.readServices(inode, path)
		}
	}
	out.readConntrack(t.kernel, paths, f.Flows)
	return out
}

// has says whether the kernel, or one of its modules, has a function.
func (k *kernel) has(function string) bool {
	_, ok := k.symbols.Load().find(function)
	return ok
}

func (f *Facts) miss(format string, args ...any) {
	f.Missing = append(f.Missing, fmt.Sprintf(format, args...))
}

// sysctlPatterns are the files under /proc/sys that decide what becomes of a
// packet.
var sysctlPatterns = []string{
	"net/ipv4/ip_forward", "net/ipv4/vs/*", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding", "net/bridge/bridge-nf-*",
}

// maxSysctl bounds the value of a setting, in bytes.
const maxSysctl = 256

// readSysctls reads the settings of the namespace that this thread is in.
func (f *Facts) readSysctls(inode uint32) {
	values, errs := sysctlsHere(sysctlPatterns)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		f.Sysctls = append(f.Sysctls, Sysctl{Netns: inode, Name: name, Value: values[name]})
	}
	for _, err := range errs {
		f.miss("namespace %d: %v", inode, err)
	}
}

// sysctlsHere reads the files below /proc/sys that match one of the patterns,
// as the namespace has them that this thread is in.
func sysctlsHere(patterns []string) (values map[string]string, errs []error) {
	const root = "/proc/sys/"
	values = map[string]string{}
	for _, pattern := range patterns {
		files, _ := filepath.Glob(root + pattern) // fails for a malformed pattern only
		for _, file := range files {
			name := strings.ReplaceAll(strings.TrimPrefix(file, root), "/", ".")
			value, err := os.ReadFile(file)
			switch {
			case errors.Is(err, fs.ErrPermission): // those that are written only
				continue
			case err != nil:
				errs = append(errs, fmt.Errorf("%s: %w", name, err))
				continue
			}
			values[name] = strings.TrimSpace(string(value[:min(len(value), maxSysctl)]))
		}
	}
	return values, errs
}

// readServices reads a namespace's virtual services.
func (f *Facts) readServices(inode uint32, path string) {
	services, err := servicesOf(inode, path)
	if err != nil {
		f.miss("IPVS of namespace %d: %v", inode, err)
	}
	f.Services = append(f.Services, services...)
}

// servicesOf reads the virtual services of the namespace that a file opens,
// or of this process's if path is empty.
func servicesOf(inode uint32, path string) ([]Service, error) {
	h, err := ipvs.New(path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	services, err := h.GetServices()
	if err != nil {
		return nil, err
	}
	var out []Service
	for _, s := range services {
		destinations, err := h.GetDestinations(s)
		if err != nil {
			continue // the service was removed meanwhile
		}
		out = append(out, newService(inode, s, destinations))
	}
	return out, nil
}

// forwarding are IPVS's ways to send to a real server, by the bits of
// IP_VS_CONN_F_FWD_MASK.
var forwarding = map[uint32]string{
	ipvs.ConnFwdMasq: "nat", ipvs.ConnFwdLocalNode: "local", ipvs.ConnFwdTunnel: "tunnel", ipvs.ConnFwdDirectRoute: "route", ipvs.ConnFwdBypass: "bypass",
}

func newService(inode uint32, s *ipvs.Service, destinations []*ipvs.Destination) Service {
	out := Service{Netns: inode, Proto: uint8(s.Protocol), FwMark: s.FWMark, Scheduler: s.SchedName, Flags: s.Flags, Timeout: s.Timeout}
	if addr, ok := netip.AddrFromSlice(s.Address); ok && s.FWMark == 0 {
		out.VIP = netip.AddrPortFrom(addr.Unmap(), s.Port)
	}
	for _, d := range destinations {
		addr, ok := netip.AddrFromSlice(d.Address)
		if !ok {
			continue
		}
		out.Destinations = append(out.Destinations, Destination{
			Addr: netip.AddrPortFrom(addr.Unmap(), d.Port), Weight: d.Weight,
			Active: d.ActiveConnections, Inactive: d.InactiveConnections, Upper: d.UpperThreshold, Forward: forwarding[d.ConnectionFlags&ipvs.ConnFwdMask],
		})
	}
	return out
}

// BootID is the kernel's name for the time since it was booted.
func BootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
