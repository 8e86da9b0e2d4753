// SPDX-License-Identifier: Apache-2.0

package events

import "slices"

// metDevice is a device that packets of a group met: it is looked up once.
type metDevice struct {
	device Device
	known  bool
	name   string // as it is shown
}

// maxMet bounds what is searched: a bridge may flood a frame to a thousand ports.
const maxMet = 16

func (b *builder) met(netns, ifindex uint32) *metDevice {
	key := uint64(netns)<<32 | uint64(ifindex)
	if b.lastMet < len(b.metKeys) && b.metKeys[b.lastMet] == key { // as a rule it is the same one again
		return &b.metDevices[b.lastMet]
	}
	b.lastMet = slices.Index(b.metKeys, key)
	if b.lastMet >= 0 {
		return &b.metDevices[b.lastMet]
	}
	var m metDevice
	m.device, m.known = b.s.names.Device(netns, ifindex)
	if m.name = m.device.Name; !m.known || m.name == "" {
		m.name = namelessDevice(ifindex)
	}
	if n := maxMet - 1; len(b.metKeys) > n {
		b.metKeys, b.metDevices = b.metKeys[:n], b.metDevices[:n]
	}
	b.lastMet = len(b.metKeys)
	b.metKeys, b.metDevices = append(b.metKeys, key), append(b.metDevices, m)
	return &b.metDevices[b.lastMet]
}

// meet looks up the devices of a packet before anything is said of it: names may learn
// from a device whose its namespace is.
func (b *builder) meet(p *packet) {
	for i := range p.steps {
		if s := &p.steps[i]; s.ifindex != 0 {
			b.met(s.netns, s.ifindex)
		}
	}
}

// device is what is known of a device. The result lasts until the next call.
func (b *builder) device(netns, ifindex uint32) (*Device, bool) {
	m := b.met(netns, ifindex)
	return &m.device, m.known
}

// deviceName is what a device is called.
func (b *builder) deviceName(netns, ifindex uint32) string { return b.met(netns, ifindex).name }
