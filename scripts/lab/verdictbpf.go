// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// bpfVerdicts: what BPF programs of others do to packets.
var bpfVerdicts = []verdictCase{
	{name: "xdp-drop", finding: "device/xdp", group: "devices", from: "centos",
		traffic: withXDP("n1", "vethcentos", 1, unanswered("udp", "172.23.96.163:4070")),
		want: []verdictWant{{kind: "request udp", where: "device", reason: "xdp",
			line: "1.5 stacks, terminated in a device: an XDP program of vethcentos dropped it"}}},
	{name: "xdp-pass", finding: "device/xdp", similar: true, group: "devices", from: "centos",
		traffic: withXDP("n1", "vethcentos", 2, refusal("udp", "172.23.96.163:4071", errRefused)),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},
	{name: "cgroup-egress", finding: "policy/policy", group: "devices", from: "centos",
		traffic: withCgroupEgress(4072, forbidden("172.23.96.163:4072")),
		want:    []verdictWant{{kind: "request udp", where: "policy", reason: "policy"}}},
	{name: "cgroup-egress-of-others", finding: "policy/policy", similar: true, group: "devices", from: "centos",
		traffic: withCgroupEgress(4073, refusal("udp", "172.23.96.163:4074", errRefused)),
		want:    []verdictWant{{kind: "request udp", where: "socket", reason: "no-socket"}}},
}

// withXDP makes traffic while a program at a device returns one verdict for all
// packets: 1 is XDP_DROP, 2 is XDP_PASS.
func withXDP(netns, dev string, verdict int32, traffic func(*play) error) func(*play) error {
	return func(p *play) error {
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.XDP, License: "Apache-2.0",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
		})
		if err != nil {
			return fmt.Errorf("load an XDP program: %w", err)
		}
		defer prog.Close()
		var l link.Link
		err = inNetns(netns, func() error {
			d, err := net.InterfaceByName(dev)
			if err != nil {
				return err
			}
			l, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: d.Index, Flags: link.XDPGenericMode})
			return err
		})
		if err != nil {
			return fmt.Errorf("attach an XDP program to %s: %w", dev, err)
		}
		defer l.Close()
		return traffic(p)
	}
}

// withCgroupEgress makes traffic while a program of the first cgroup lets nothing
// out that goes to a port.
func withCgroupEgress(port uint16, traffic func(*play) error) func(*play) error {
	return func(p *play) error {
		const remotePort = 132 // of struct __sk_buff, network order in its upper half
		prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
			Type: ebpf.CGroupSKB, AttachType: ebpf.AttachCGroupInetEgress, License: "Apache-2.0",
			Instructions: asm.Instructions{
				asm.LoadMem(asm.R2, asm.R1, remotePort, asm.Word),
				asm.HostTo(asm.BE, asm.R2, asm.Word),
				asm.Mov.Imm(asm.R0, 1),
				asm.JNE.Imm(asm.R2, int32(port), "out"),
				asm.Mov.Imm(asm.R0, 0),
				asm.Return().WithSymbol("out"),
			},
		})
		if err != nil {
			return fmt.Errorf("load a cgroup program: %w", err)
		}
		defer prog.Close()
		l, err := link.AttachCgroup(link.CgroupOptions{Path: "/sys/fs/cgroup", Attach: ebpf.AttachCGroupInetEgress, Program: prog})
		if err != nil {
			return fmt.Errorf("attach a cgroup program: %w", err)
		}
		defer l.Close()
		return traffic(p)
	}
}

// forbidden is a datagram that the kernel does not send, and says so.
func forbidden(dst string) func(*play) error {
	return func(p *play) error {
		conn, err := p.datagrams(dst)
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("anybody there?"))
		return wantError(err, errForbidden)
	}
}
