// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/moby/ipvs"
	"golang.org/x/sys/unix"
)

// setIPVS gives a node its virtual services: round robin, masquerading.
func setIPVS(n node) error {
	all, err := virtuals(n)
	if err != nil {
		return err
	}
	h, err := ipvs.New(netnsPath(n.name))
	if err != nil {
		return fmt.Errorf("%s: open IPVS: %w", n.name, err)
	}
	defer h.Close()
	for _, v := range all {
		svc := ipvsService(v)
		if err := h.NewService(svc); err != nil {
			return fmt.Errorf("%s: add virtual service %s: %w (is ip_vs loaded?)", n.name, v.addr, err)
		}
		for _, real := range v.reals {
			dest := &ipvs.Destination{
				Address: real.Addr().AsSlice(), Port: real.Port(), Weight: 1,
				ConnectionFlags: ipvs.ConnFwdMasq, AddressFamily: svc.AddressFamily,
			}
			if err := h.NewDestination(svc, dest); err != nil {
				return fmt.Errorf("%s: add real server %s to %s: %w", n.name, real, v.addr, err)
			}
		}
	}
	return nil
}

func ipvsService(v virtual) *ipvs.Service {
	svc := &ipvs.Service{
		Address: v.addr.Addr().AsSlice(), Port: v.addr.Port(), Protocol: unix.IPPROTO_TCP,
		SchedName: ipvs.RoundRobin, AddressFamily: unix.AF_INET, Netmask: 0xffffffff,
	}
	if v.proto == "udp" {
		svc.Protocol = unix.IPPROTO_UDP
	}
	if v.addr.Addr().Is6() {
		svc.AddressFamily, svc.Netmask = unix.AF_INET6, 128
	}
	return svc
}
