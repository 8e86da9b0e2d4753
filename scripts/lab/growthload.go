// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"time"

	"github.com/stackhop/stackhop/scripts/internal/plot"
)

// capacity is how many datagrams a second the tool can follow: what it reads of a
// flood that nothing holds back, and for which it sheds packets and loses events.
func (g *growth) capacity(w benchWay, site benchSite) (float64, error) {
	flood, cost, err := w.aroundOne(floodLoad(0), site, g.lasts)
	if err != nil {
		return 0, err
	}
	if cost.Events == 0 || flood.rate == 0 {
		return 0, fmt.Errorf("a flood of %.0f datagrams/s gave %d events", flood.rate, cost.Events)
	}
	return flood.rate / cost.times(), nil
}

// loadShares are the loads of the tool, in percent of what it can follow.
var loadShares = []float64{25, 50, 75, 100, 150, 200}

// load is what is lost against the load. At half of what it can follow, which must
// lose nothing, it is watched for as long as memory is.
func (g *growth) load() (*plot.Chart, error) {
	c := &plot.Chart{Title: "Losses against load", X: "load, of what the tool can read [%]", Y: "lost [%]"}
	return c, withPair(func(p pairInfo) error {
		site := pairSite(p)
		w := g.selecting(site, selectAll)
		able, err := g.capacity(w, site)
		if err != nil {
			return err
		}
		c.Note = g.note(fmt.Sprintf("UDP; capacity %s datagrams/s", scaled(able)))
		for _, share := range loadShares {
			lasts := g.lasts
			if share == 50 {
				lasts = max(lasts, min(g.long, time.Minute))
			}
			flood, cost, err := w.aroundOne(floodLoad(int(able*share/100)), site, lasts)
			if err != nil {
				return err
			}
			c.Add(plot.Point{Series: seriesLost, X: share, Y: 100 * float64(cost.Lost) / float64(max(cost.Matched, 1))})
			c.Add(plot.Point{Series: seriesShed, X: share, Y: 100 * float64(cost.Shed) / float64(max(cost.Packets+cost.Shed, 1))})
			g.tell("%.0f %% of capacity for %v: %s datagrams/s of %s meant, %d events, %d lost, %d packets shed", share, lasts,
				scaled(flood.rate), scaled(able*share/100), cost.Matched, cost.Lost, cost.Shed)
		}
		return nil
	})
}
