// SPDX-License-Identifier: Apache-2.0

// Package redact replaces what identifies people, machines and applications in
// events and in what names them by pseudonyms that are made with a secret key.
// The same key gives the same pseudonyms on every node and in every run, so that
// redacted recordings can still be merged, compared and replayed: the traversals
// of a redacted recording are the original's, with other names. Nothing is kept
// beside the key: whoever has it can undo the pseudonyms of addresses and
// numbers, and can find out which name a word stands for by trying names.
//
// # Use
//
// At record time events are redacted before anything else sees them, and the
// stitcher and the recorder get Redactor.Names in place of the run's names:
//
//	r.Event(&e)
//	stitcher.Add(&e) // with Names: writer.Names(r.Names(names)), OnlyNode: r.Object(node)
//	writer.Event(&e)
//
// What is selected is decided before, by the originals.
//
// # What becomes of what
//
//   - IP addresses: prefix-preserving pseudonyms (as Crypto-PAn, Xu et al. 2002):
//     two addresses that have exactly n leading bits in common have exactly n in
//     common afterwards. Ranges with a meaning of their own map onto themselves.
//     Kept as they are: 0/8, 127/8, 169.254/16, 224.0.0/24, 255.255.255.255,
//     ::, ::1 and the well-known multicast groups of IPv6. Kept as a class, with
//     pseudonyms inside: 224/4, 240/4, fe80::/64, ff00::/8 and solicited-node
//     groups. Therefore an address also keeps the bits in which it agrees with
//     such a range and one more: for 10.0.0.1 these are 5 of 32, for 2001:db8::1
//     3 of 128. A subnet's broadcast address does not stay one in form.
//   - Names of namespaces, pods, services, their ports, and nodes: words
//     (brave-otter-x3k9f2), one for each part between slashes. Equal names get equal
//     words, whatever they name. So do zones, and keys and values of labels.
//     Types and policies of services stay, and how many endpoints they have, and how
//     these are. Commands: shorter words that fit the kernel's 15 bytes. Devices:
//     names that any node has (eth0, cni0, flannel.1) stay, of others only a
//     customary prefix (veth, cali) does.
//   - Rules of netfilter: names of tables and chains that any node has stay, others
//     and comments become words; texts of rules are left out. Handles stay.
//   - Process ids, socket inodes, namespace inodes: other numbers, one to one; so
//     the part of packet and flow numbers that comes from a kernel address, and
//     the addresses of drop sites. Symbols stay, but for those of BPF programs.
//   - Link addresses: locally administered ones. Broadcast, well-known groups and
//     the multicast bit stay.
//   - ICMP identifiers (on many systems a process id) always, ports only with
//     Redactor.Ports.
//   - The hash of the payload is encrypted, so that it stays equal where it was
//     equal, but a guess of the payload can no longer be tried.
//   - Bytes: cut behind the transport header (what an ICMP error quotes and what
//     is inside VXLAN and IP-in-IP is rewritten too). Checksums, flow labels and
//     IP options are cleared, TCP options other than MSS, window scale, SACK and
//     timestamps are overwritten, IPv6 options are padding afterwards. What is
//     not understood is dropped.
//   - Members of the selection's sets: as their addresses and ports. Where the
//     recording is damaged the copy says that nothing is known of them.
//   - Boot and run ids: other ids. Command lines and filters: words of the tool's
//     own languages stay, addresses and names become pseudonyms, and what follows
//     "--" is left out.
//
// Kept: times, lengths, TTLs, TCP flags, IP ids, sequence numbers, marks, VLANs,
// hooks, reasons, device indexes, kernel release. IP ids and sequence numbers
// are what packets of several nodes are joined by, and name nobody.
//
// # What it protects against
//
// A reader without the key learns no address, name, command, process id or
// payload byte from a redacted recording, and cannot test a guess of one: every
// pseudonym depends on 256 secret bits.
//
// It does not hide the traffic itself. Who talks to whom under which pseudonym,
// when, how much, over which ports, protocols and TTLs, and how the network is
// divided into subnets all stay visible, for that is what a recording is for.
// Three consequences:
//
//   - Whoever knows what one pseudonym stands for (because they sent a packet
//     themselves, or captured the same traffic elsewhere and compare times,
//     lengths or sequence numbers) knows it everywhere where the key was used, and
//     with a prefix-preserving pseudonym also the common prefix of all addresses
//     near it. Each further pair tells more.
//   - Characteristic ports, devices and paths can betray an application or a
//     product; well-known subnet sizes narrow down the prefixes.
//   - Recordings made with one key can be linked. Use a key for each ticket, and
//     delete it when nobody needs to undo the pseudonyms any more.
package redact
