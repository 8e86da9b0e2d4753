// SPDX-License-Identifier: Apache-2.0

package events

import "fmt"

// stationNames are the stable words for stations, in output and in files.
// Unlike the numbers, they stay the same when a station is added.
var stationNames = map[Station]string{
	StationNone:             "none",
	StationSocketOut:        "socket-out",
	StationIPOut:            "ip-out",
	StationFragmenting:      "fragmenting",
	StationNeighbour:        "neighbour",
	StationTCEgress:         "tc-egress",
	StationQueue:            "queue",
	StationTransmit:         "transmit",
	StationVeth:             "veth",
	StationReceive:          "receive",
	StationTCIngress:        "tc-ingress",
	StationBridgeIn:         "bridge-in",
	StationBridgeForward:    "bridge-forward",
	StationBridgeFlood:      "bridge-flood",
	StationBridgeUp:         "bridge-up",
	StationBridgeOut:        "bridge-out",
	StationBridgeNF:         "bridge-nf",
	StationIPIn:             "ip-in",
	StationLocalDeliver:     "local-deliver",
	StationForward:          "forward",
	StationRouteError:       "route-error",
	StationMartian:          "martian",
	StationNetfilter:        "netfilter",
	StationTable:            "table",
	StationVerdict:          "verdict",
	StationConntrackIn:      "conntrack-in",
	StationConntrackConfirm: "conntrack-confirm",
	StationConntrackFull:    "conntrack-full",
	StationConntrackClash:   "conntrack-clash",
	StationNAT:              "nat",
	StationIPVSIn:           "ipvs-in",
	StationIPVSSchedule:     "ipvs-schedule",
	StationIPVSConn:         "ipvs-conn",
	StationIPVSXmit:         "ipvs-xmit",
	StationIPVSLeave:        "ipvs-leave",
	StationIPVSOut:          "ipvs-out",
	StationTransportIn:      "transport-in",
	StationSocketIn:         "socket-in",
	StationTimeWait:         "time-wait",
	StationBacklog:          "backlog",
	StationRawIn:            "raw-in",
	StationPingIn:           "ping-in",
	StationListen:           "listen",
	StationICMPIn:           "icmp-in",
	StationErrorIn:          "error-in",
	StationICMPSend:         "icmp-send",
	StationResetSend:        "reset-send",
	StationReject:           "reject",
	StationClone:            "clone",
	StationSegment:          "segment",
	StationFragment:         "fragment",
	StationMerge:            "merge",
	StationDrop:             "drop",
	StationEnd:              "end",
}

// StationName is the name of a station in files.
func StationName(s Station) string { return stationNames[s] }

// StationByName finds a station by its name in files.
func StationByName(name string) (Station, bool) {
	for s, n := range stationNames {
		if n == name {
			return s, true
		}
	}
	return StationNone, false
}

// String returns the station's stable word.
func (s Station) String() string {
	if name, ok := stationNames[s]; ok {
		return name
	}
	return fmt.Sprintf("station-%d", uint8(s))
}
