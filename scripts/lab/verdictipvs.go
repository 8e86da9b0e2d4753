// SPDX-License-Identifier: Apache-2.0

package main

// ipvsVerdicts: what IPVS does to packets, and what looks the same to a client.
var ipvsVerdicts = []verdictCase{
	{name: "refused-no-destination", finding: "ipvs/no-destination", group: "ipvs", from: "centos",
		traffic: refusal("tcp", vipLocal+":80", errRefused),
		want: []verdictWant{
			{kind: "request tcp S", where: "ipvs", reason: "no-destination",
				line: "1.5 stacks, terminated in IPVS: 8.219.164.113:80 has no destination on this node"},
			{kind: "reply icmp 3/3", verdict: delivered, because: "request tcp S"},
		}},
	{name: "refused-no-listener", finding: "ipvs/no-destination", similar: true, group: "ipvs", from: "centos",
		traffic: refusal("tcp", "172.23.96.163:81", errRefused),
		want: []verdictWant{
			{kind: "request tcp S", where: "socket", reason: "no-socket",
				line: "3.5 stacks, terminated in the socket layer: nothing listens on 172.23.96.163:81, answered with RST"},
		}},
}
