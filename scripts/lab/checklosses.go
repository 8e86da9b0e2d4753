// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// garbledPort is where the datagram goes whose header nobody can read on its way.
const garbledPort = 4090

// emptied is how long after the traffic the tool may take a packet for one that is
// under way.
const emptied = 5 * time.Second

// losses: a followed packet that turns into something else on its way is counted as
// not to be read, and nothing else is lost; and of the packets that have ended none is
// left in the tool's table.
func (c *checker) losses() error {
	s, err := c.tool.start("udp and host 172.23.96.163")
	if err != nil {
		return err
	}
	if _, err := output(c.me, "churn", "-totals", "-from", "centos", "-to", "nginx1a", "-dst", "172.23.96.163:9", "-packets", "200", "-flows", "4"); err != nil {
		return err
	}
	if err := garble("n1", "vethcentos", func() error { return sendFrom("centos", fmt.Sprintf("172.23.96.163:%d", garbledPort)) }); err != nil {
		return err
	}
	start := time.Now()
	left, err := followedPackets()
	for ; err == nil && left > 0 && time.Since(start) < emptied; left, err = followedPackets() {
	}
	if err != nil {
		return err
	}
	c.fact("the table of packets was empty after %.1f s", time.Since(start).Seconds())
	if left > 0 {
		return fmt.Errorf("%d packets are in the tool's table, %v after the traffic", left, emptied)
	}
	if err := s.interrupt(); err != nil {
		return err
	}
	for _, line := range s.summary() {
		if _, lost, ok := strings.Cut(line, "delivered to user space, "); ok {
			c.fact("%s", lost)
			if !regexp.MustCompile(`^LOST read [1-9][0-9]*($|; ` + leftOut + `)`).MatchString(lost) {
				return fmt.Errorf("want only a loss by read: %s", line)
			}
			return nil
		}
	}
	return errors.New("no summary of losses: " + lastLines(s.stderr.String(), 12))
}

// sendFrom sends one datagram from a pod.
func sendFrom(netns, to string) error {
	return inNetns(netns, func() error {
		conn, err := net.Dial("udp4", to)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("turns into something else"))
		return err
	})
}

// garble makes traffic while a program at a device gives each UDP packet to
// garbledPort a version that no protocol has.
func garble(netns, dev string, traffic func() error) error {
	const ip, proto, port, end = 14, 23, 36, 42 // offsets in the frame
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, 0, asm.Word), asm.LoadMem(asm.R3, asm.R1, 4, asm.Word),
			asm.Mov.Imm(asm.R0, 2), // XDP_PASS
			asm.Mov.Reg(asm.R4, asm.R2), asm.Add.Imm(asm.R4, end), asm.JGT.Reg(asm.R4, asm.R3, "out"),
			asm.LoadMem(asm.R5, asm.R2, proto, asm.Byte), asm.JNE.Imm(asm.R5, 17, "out"),
			asm.LoadMem(asm.R5, asm.R2, port, asm.Half), asm.HostTo(asm.BE, asm.R5, asm.Half), asm.JNE.Imm(asm.R5, garbledPort, "out"),
			asm.Mov.Imm(asm.R5, 0xf5), asm.StoreMem(asm.R2, ip, asm.R5, asm.Byte),
			asm.Return().WithSymbol("out"),
		},
	})
	if err != nil {
		return fmt.Errorf("load an XDP program: %w", err)
	}
	defer prog.Close()
	var l link.Link
	err = inNetns(netns, func() error {
		d, err := net.InterfaceByName(dev)
		if err == nil {
			l, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: d.Index, Flags: link.XDPGenericMode})
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("attach an XDP program to %s: %w", dev, err)
	}
	defer l.Close()
	return traffic()
}

// followedPackets is how many packets the running tools take for being under way.
func followedPackets() (n int, err error) {
	for id := ebpf.MapID(0); ; {
		if id, err = ebpf.MapGetNextID(id); err != nil {
			if errors.Is(err, os.ErrNotExist) {
				return n, nil
			}
			return n, err
		}
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			continue // gone meanwhile
		}
		if info, err := m.Info(); err == nil && info.Name == "sh_packets" {
			var key uint64
			for next := m.NextKey(nil, &key); next == nil; next = m.NextKey(key, &key) {
				n++
			}
		}
		m.Close()
	}
}
