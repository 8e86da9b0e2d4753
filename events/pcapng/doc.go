// SPDX-License-Identifier: Apache-2.0

// Package pcapng writes what the tool saw as a capture file for Wireshark,
// tshark and tcpdump: one interface for each namespace and device, one packet
// for each time that a packet passed a device, with the traversal that it
// belongs to as its comment and as its packet id.
//
// What is exact and what is not:
//
//   - Headers are the packet's own as they were last told before the event. TTL
//     and Ethernet header are those at the device. Where a run kept no bytes the
//     headers are rebuilt from the fields that are known: options of IP and TCP
//     are missing then, and the comment says "headers rebuilt".
//   - The captured length is what was kept, the original length what passed.
//   - Packets that this machine made have no IPv4 checksum and total length yet
//     when their headers are told: both are filled in. A wrong IPv4 checksum of a
//     packet that came from elsewhere stays wrong. Checksums above IP are as they
//     were in memory: where a device computes them they are not there yet.
//   - All interfaces are Ethernet ones, since tcpdump refuses files that mix link
//     types, and such as have several interfaces with bare IP packets. Where there
//     was no Ethernet header, or it was not written yet, one of zeros stands for
//     it, and the interface's description says so.
//
// The blocks are written by hand rather than with gopacket/pcapgo: its writer has
// no isb_osdrop, isb_filteraccept and isb_usrdeliv, leaves the comments of
// statistics out, and brings all of gopacket's protocol layers into the binary.
package pcapng
