package app

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"time"

	"posthorn/api"
	"posthorn/registry"
)

// resolveTimeout bounds the look-up of a name at registration.
const resolveTimeout = 2 * time.Second

// checkAddress refuses a URL whose host resolves to an address that deliveries
// are never made to: one is enough, since which of several is dialled is
// chance. It says no address: to the tenant it may be a name of someone else's
// network. A name that doesn't resolve, or not in time, passes: it may be set
// up later, and the dial guard is the defence.
func (l *Line) checkAddress(ctx context.Context, raw string) []api.FieldError {
	u, err := url.Parse(raw)
	if err != nil || l.opts.Dial != nil { // a network in memory has names of its own
		return nil
	}
	host := u.Hostname()
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return nil // the rules have looked at it
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	lookup := l.opts.Resolve
	if lookup == nil {
		lookup = net.DefaultResolver.LookupNetIP
	}
	addrs, err := lookup(ctx, "ip", host)
	if err != nil {
		return nil
	}
	policy := registry.Policy{AllowCIDRs: l.cfg.Delivery.AllowCIDR, DenyCIDRs: l.cfg.Delivery.DenyCIDR}
	for _, addr := range addrs {
		if what := policy.RefusesAddress(addr.Unmap()); what != "" {
			return []api.FieldError{{Field: "url", Problem: "its host resolves to an address that deliveries are never made to (" + what + ")"}}
		}
	}
	return nil
}
