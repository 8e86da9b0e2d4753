// SPDX-License-Identifier: Apache-2.0

package events

// metDevice is a device that packets of a group met: it is looked up once.
type metDevice struct {
	netns, ifindex uint32
	device         Device
	known          bool
	name           string // as it is shown
}

// maxMet bounds what is searched: a bridge may flood a frame to a thousand ports.
const maxMet = 16

func (b *builder) met(netns, ifindex uint32) *metDevice {
	for i := range b.metDevices {
		if m := &b.metDevices[i]; m.ifindex == ifindex && m.netns == netns {
			return m
		}
	}
	m := metDevice{netns: netns, ifindex: ifindex, name: b.s.deviceName(netns, ifindex)}
	m.device, m.known = b.s.names.Device(netns, ifindex)
	if len(b.metDevices) == maxMet {
		b.metDevices = b.metDevices[:maxMet-1]
	}
	b.metDevices = append(b.metDevices, m)
	return &b.metDevices[len(b.metDevices)-1]
}

// device is what is known of a device. The result lasts until the next call.
func (b *builder) device(netns, ifindex uint32) (*Device, bool) {
	m := b.met(netns, ifindex)
	return &m.device, m.known
}

// deviceName is what a device is called.
func (b *builder) deviceName(netns, ifindex uint32) string { return b.met(netns, ifindex).name }
