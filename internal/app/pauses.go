package app

import (
	"strings"

	"posthorn/registry"
	"posthorn/webhook"
)

// pauses is who is paused besides single endpoints. It never changes, and a nil
// one pauses nobody.
type pauses struct {
	all     bool
	tenants map[string]struct{}
}

func (p *pauses) has(tenant string) bool {
	if p == nil {
		return false
	}
	_, paused := p.tenants[tenant]
	return p.all || paused
}

// pausesOf reads the registry's records "pause/all" and "pause/tenant/T"; nil if
// there are none.
func pausesOf(s *registry.Store) *pauses {
	ids := s.IDs(webhook.KindPause)
	if len(ids) == 0 {
		return nil
	}
	p := &pauses{tenants: make(map[string]struct{})}
	for _, id := range ids {
		if id == webhook.PauseAll {
			p.all = true
		} else if tenant, ok := strings.CutPrefix(id, webhook.PauseTenant); ok {
			p.tenants[tenant] = struct{}{}
		}
	}
	return p
}
