// SPDX-License-Identifier: Apache-2.0

// Package pcapexpr parses packet selections written in the language people
// know from tcpdump, and evaluates them on the first bytes of a packet.
//
// # Language
//
// Primitives:
//
//	host A, src host A, dst A, src and dst host A     A is IPv4 or IPv6
//	net 10.0.0.0/8, net 10.0, net 10, net A mask M    also net 2001:db8::/32
//	port P, src port P, tcp dst port P, udp port P    number or common service
//	portrange A-B, tcp src portrange A-B
//	ip, ip6, tcp, udp, sctp, icmp, icmp6, igmp, igrp, pim, vrrp, carp, ah, esp
//	proto N, ip proto N, ip6 proto N                  also proto \tcp, proto tcp
//	ip multicast, ip6 multicast
//	vlan, vlan N
//	less N, greater N                                 len <= N, len >= N
//	ARITH relation ARITH                              = == != < <= > >=
//
// ARITH is made of numbers (decimal, 0x hex, leading 0 octal), len, the
// constants tcpflags, tcp-syn, icmptype, icmp-echo and so on, packet bytes such
// as tcp[13], ip[6:2] or icmp6[icmp6type] (1, 2 or 4 bytes, big endian), and the
// operators + - * / % & | ^ << >> with parentheses. It is unsigned 32-bit
// arithmetic; a division by zero rejects the packet.
//
// Primitives are joined by and (&&), or (||), not (!) and parentheses. As in
// tcpdump, and and or bind equally strongly and group from the left, and an
// operand without qualifiers takes those of the operand before it:
// "src host 10.0.0.1 or 10.0.0.2", "tcp port 80 or 443".
//
// # Meaning
//
// The packet begins at its network header and only its first [HeaderBytes]
// bytes are available. Reading a byte that is not available rejects the whole
// packet, whatever surrounds that primitive, even a not: this is what tcpdump
// does with a packet cut short. A constant offset that can never be available
// is refused by [Parse].
//
// Ports and transport bytes of IPv4 are found only in first fragments. For
// IPv6, port looks only at a transport header directly behind the fixed header,
// and a protocol such as tcp or ip6 proto also looks behind one fragment
// header; tcp[..] and the like are IPv4 only, icmp6[..] is IPv6 only.
//
// # Sets
//
// The language has no word for a [Set]: the ends that a name stands for, which
// change while packets are matched. [SrcIn] and [DstIn] make conditions of one,
// to be joined with parsed expressions, and [ParseSets] reads what is printed of
// them.
//
// # Differences from tcpdump
//
//   - The link layer is not seen: ether, arp, mpls, bare broadcast and the like
//     are refused. host and net therefore never match ARP.
//   - len is the network-layer length plus [LinkBytes], the number tcpdump
//     shows on Ethernet.
//   - vlan reads the tag the kernel keeps beside the packet. It does not move
//     the offsets of what follows it, so "vlan 5 or vlan 6" and "not vlan" mean
//     what they say, tagged packets also match without the word, and two
//     stacked tags cannot be asked for.
//   - Host names and unknown service names are refused: nothing is looked up.
//   - An IPv4 header length below 20 makes the transport header unavailable
//     instead of placing it inside the IPv4 header.
//   - % and ^ must stand alone or in parentheses, because tcpdump gives them
//     surprising precedence.
//   - proto accepts a protocol name without the backslash, net accepts 10/8,
//     and the plain numbers tcpdump would read as an address are refused.
//   - A comparison is false for a packet without one of the headers it reads;
//     tcpdump forgets to look for those read on the right of an arithmetic
//     operator.
//   - Every byte written in the expression is read, also where libpcap's
//     optimiser would notice that its value cannot matter. The exception are
//     comparisons of two constants: Parse decides them and drops what they make
//     irrelevant.
package pcapexpr
