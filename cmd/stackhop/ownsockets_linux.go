// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stackhop/stackhop/events"
)

// maxAncestors bounds how far up is looked: sshd is some five processes above.
const maxAncestors = 32

// ownConnections lists the TCP connections of this process and those above it, in
// whichever network namespaces these are: what is shown may go out through one of them,
// as with ssh. A process whose files may not be listed is taken to have none.
func ownConnections() (out []events.Tuple) {
	sockets := map[string]bool{}   // inodes
	namespaces := map[string]int{} // and a process that is in them
	for pid, n := os.Getpid(), 0; pid > 1 && n < maxAncestors; pid, n = parentOf(pid), n+1 {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is right
		for _, f := range files {
			to, err := os.Readlink(f)
			if inode, ok := strings.CutPrefix(to, "socket:["); err == nil && ok {
				sockets[strings.TrimSuffix(inode, "]")] = true
			}
		}
		if netns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil {
			namespaces[netns] = pid
		}
	}
	if len(sockets) == 0 {
		return nil
	}
	for _, pid := range namespaces {
		for _, table := range []string{"tcp", "tcp6"} {
			out = append(out, connectionsOf(fmt.Sprintf("/proc/%d/net/%s", pid, table), sockets)...)
		}
	}
	return out
}

// connectionsOf reads a table of connections: those with one of the sockets. There is
// no table without IPv6.
func connectionsOf(path string, sockets map[string]bool) (out []events.Tuple) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if t, inode, ok := parseConnection(lines.Text()); ok && sockets[inode] {
			out = append(out, t)
		}
	}
	return out
}

// parentOf is the process that started another, 0 if that is not known.
func parentOf(pid int) int {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// PID (NAME) STATE PPID …: the name may have parentheses and spaces of its own.
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0
	}
	return parent
}

// established is TCP_ESTABLISHED in /proc/net/tcp.
const established = "01"

// parseConnection reads a line of /proc/net/tcp or tcp6: a connection that is
// established, and the inode of its socket.
func parseConnection(line string) (t events.Tuple, inode string, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != established {
		return t, "", false
	}
	local, ok1 := parseSocketEnd(f[1])
	remote, ok2 := parseSocketEnd(f[2])
	t = events.Tuple{Proto: 6, Src: local.Addr(), SrcPort: local.Port(), Dst: remote.Addr(), DstPort: remote.Port()}
	return t, f[9], ok1 && ok2
}

// parseSocketEnd reads an address, words of 32 bits in this machine's order in
// hexadecimal, and a port.
func parseSocketEnd(text string) (end netip.AddrPort, ok bool) {
	address, digits, _ := strings.Cut(text, ":")
	b, err := hex.DecodeString(address)
	port, perr := strconv.ParseUint(digits, 16, 16)
	if err != nil || perr != nil || len(b)%4 != 0 {
		return end, false
	}
	for i := 0; i < len(b); i += 4 {
		binary.BigEndian.PutUint32(b[i:], binary.NativeEndian.Uint32(b[i:]))
	}
	addr, ok := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port)), ok
}
