// SPDX-License-Identifier: Apache-2.0

package pcapexpr

// protocol describes a word such as tcp: the IP version it is limited to, 0 for
// both, and the IP protocol number.
type protocol struct {
	family, num uint8
}

// protocols are the words that are a primitive of their own.
var protocols = map[string]protocol{
	"tcp": {0, protoTCP}, "udp": {0, protoUDP}, "sctp": {0, protoSCTP},
	"icmp": {4, protoICMP}, "icmp6": {6, protoICMP6}, "igmp": {4, 2},
	"igrp": {4, 9}, "pim": {0, 103}, "vrrp": {4, 112}, "carp": {4, 112},
	"ah": {0, 51}, "esp": {0, 50},
}

// protoNames are the names accepted behind proto.
var protoNames = map[string]uint8{
	"icmp": 1, "igmp": 2, "ipencap": 4, "tcp": 6, "igrp": 9, "udp": 17,
	"ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "icmp6": 58, "ipv6-icmp": 58,
	"ospf": 89, "ipip": 94, "pim": 103, "vrrp": 112, "carp": 112, "sctp": 132,
}

// baseNames are the words before "[", in the order of the Base constants.
var baseNames = []string{
	"ip", "ip6", "icmp6", "tcp", "udp", "sctp", "icmp", "igmp", "igrp", "pim",
	"vrrp", "carp",
}

// services are the names accepted behind port. The table is short on purpose:
// what it means must not depend on the machine it runs on.
var services = map[string]uint16{
	"ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25,
	"domain": 53, "bootps": 67, "bootpc": 68, "tftp": 69, "http": 80,
	"kerberos": 88, "pop3": 110, "sunrpc": 111, "ntp": 123, "imap2": 143,
	"snmp": 161, "snmp-trap": 162, "bgp": 179, "ldap": 389, "https": 443,
	"syslog": 514, "submission": 587, "ldaps": 636, "domain-s": 853,
	"imaps": 993, "pop3s": 995, "nfs": 2049, "mysql": 3306,
	"postgresql": 5432, "redis": 6379, "http-alt": 8080,
}

// constants are the names that stand for numbers in arithmetic.
var constants = map[string]uint32{
	"tcpflags": 13,
	"tcp-fin":  0x01, "tcp-syn": 0x02, "tcp-rst": 0x04, "tcp-push": 0x08,
	"tcp-ack": 0x10, "tcp-urg": 0x20, "tcp-ece": 0x40, "tcp-cwr": 0x80,

	"icmptype": 0, "icmpcode": 1,
	"icmp-echoreply": 0, "icmp-unreach": 3, "icmp-sourcequench": 4,
	"icmp-redirect": 5, "icmp-echo": 8, "icmp-routeradvert": 9,
	"icmp-routersolicit": 10, "icmp-timxceed": 11, "icmp-paramprob": 12,
	"icmp-tstamp": 13, "icmp-tstampreply": 14, "icmp-ireq": 15,
	"icmp-ireqreply": 16, "icmp-maskreq": 17, "icmp-maskreply": 18,

	"icmp6type": 0, "icmp6code": 1,
	"icmp6-destinationunreach": 1, "icmp6-packettoobig": 2,
	"icmp6-timeexceeded": 3, "icmp6-parameterproblem": 4, "icmp6-echo": 128,
	"icmp6-echoreply": 129, "icmp6-multicastlistenerquery": 130,
	"icmp6-multicastlistenerreportv1": 131, "icmp6-multicastlistenerdone": 132,
	"icmp6-routersolicit": 133, "icmp6-routeradvert": 134,
	"icmp6-neighborsolicit": 135, "icmp6-neighboradvert": 136,
	"icmp6-redirect": 137, "icmp6-routerrenum": 138,
	"icmp6-nodeinformationquery": 139, "icmp6-nodeinformationresponse": 140,
	"icmp6-ineighbordiscoverysolicit": 141, "icmp6-ineighbordiscoveryadvert": 142,
	"icmp6-multicastlistenerreportv2": 143, "icmp6-homeagentdiscoveryrequest": 144,
	"icmp6-homeagentdiscoveryreply": 145, "icmp6-mobileprefixsolicit": 146,
	"icmp6-mobileprefixadvert": 147, "icmp6-certpathsolicit": 148,
	"icmp6-certpathadvert": 149, "icmp6-multicastrouteradvert": 151,
	"icmp6-multicastroutersolicit": 152, "icmp6-multicastrouterterm": 153,
}

// Reasons for refusing words tcpdump knows.
const (
	whyLink   = "the link layer is not seen here; accepted are ip, ip6 and what is inside them"
	whyTunnel = "it would move the offsets of everything behind it, which is not supported"
	whyPF     = "it needs a capture device that provides this, which a tracer is not"
)

// refused are words of tcpdump that are outside this language, with the reason.
var refused = map[string]string{
	"ether": whyLink, "link": whyLink, "fddi": whyLink, "tr": whyLink,
	"wlan": whyLink, "ppp": whyLink, "slip": whyLink, "llc": whyLink,
	"arp": whyLink, "rarp": whyLink, "atalk": whyLink, "aarp": whyLink,
	"decnet": whyLink, "lat": whyLink, "sca": whyLink, "moprc": whyLink,
	"mopdl": whyLink, "iso": whyLink, "esis": whyLink, "isis": whyLink,
	"clnp": whyLink, "stp": whyLink, "ipx": whyLink, "netbeui": whyLink,
	"lane": whyLink, "radio": whyLink, "gateway": whyLink,
	"broadcast": whyLink,
	"multicast": whyLink + "; write ip multicast or ip6 multicast",
	"mpls":      whyTunnel, "pppoes": whyTunnel, "pppoed": whyTunnel, "geneve": whyTunnel,
	"protochain": "it needs a loop over extension headers; write proto",
	"inbound":    whyPF, "outbound": whyPF, "ifname": whyPF, "on": whyPF,
	"rnr": whyPF, "rulenum": whyPF, "reason": whyPF, "rset": whyPF,
	"ruleset": whyPF, "srnr": whyPF, "subrulenum": whyPF, "action": whyPF,
	"type": whyPF, "subtype": whyPF, "dir": whyPF,
}

// primitives is what an error names where a primitive is missing.
const primitives = "host, net, port, portrange, src, dst, ip, ip6, tcp, udp, sctp, icmp, icmp6, proto, vlan, less, greater, not, ( or a comparison such as tcp[13] & 2 != 0"
